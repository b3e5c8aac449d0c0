"""Every sequence model, listed once: a model that stands here is held to every law.

Models are small, for many are compiled, and any context, chunk or memory of theirs is shorter
than ``laws.TIME``, so that a single pass is longer than it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn

from memorax.networks import (
    FFN,
    GLU,
    RNN,
    ALiBi,
    CausalConv1d,
    ChronoGRUCell,
    ChronoLSTMCell,
    DeltaNetCell,
    DeltaNetConfig,
    FFMCell,
    FFMConfig,
    GatedDeltaNetCell,
    GatedDeltaNetConfig,
    GatedLinearAttentionCell,
    GatedLinearAttentionConfig,
    KimiDeltaAttentionCell,
    KimiDeltaAttentionConfig,
    LearnablePositionalEmbedding,
    LinearAttentionCell,
    LinearAttentionConfig,
    LRUCell,
    LRUConfig,
    Mamba2Cell,
    Mamba2Config,
    Mamba3Cell,
    Mamba3Config,
    Memoroid,
    MemoroidCell,
    MinGRUCell,
    MinGRUConfig,
    MoE,
    PostNorm,
    Projection,
    RelativePositionalEmbedding,
    Residual,
    RGLRUCell,
    RGLRUConfig,
    RL2Wrapper,
    RoPE,
    RTUCell,
    RTUConfig,
    RWKV7Cell,
    RWKV7Config,
    S5Cell,
    S5Config,
    SegmentRecurrence,
    SelfAttention,
    SelfAttentionConfig,
    SequenceModelWrapper,
    SHMCell,
    SHMConfig,
    Stack,
    TopKRouter,
    architectures,
    mLSTMCell,
    mLSTMConfig,
    sLSTMCell,
    sLSTMConfig,
)

FEATURES = 6
"""Unlike the number of features that the laws feed in: every model projects."""

Build = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Entry:
    """A model by name.

    Attributes:
        name: What its tests are called.
        build: Makes the model, given the dtype to compute in (``None``: that of inputs and
            parameters) and the dtype of its parameters.
        alternatives: By name, other implementations of the same recurrence with the same
            parameters and carry.
        exempt: By name, the laws that the model is not meant to keep, each with the reason. A
            test of its own says what it keeps instead.
        at_gate: The laws that are tested at the gate, the others and the alternatives by ``make
            test-exhaustive``; ``None``: all that are quick.
    """

    name: str
    build: Build
    alternatives: Mapping[str, Build] = field(default_factory=dict)
    exempt: Mapping[str, str] = field(default_factory=dict)
    at_gate: tuple[str, ...] | None = None


# The RNN takes its own backward pass for exactly the cells of Flax, not for what inherits them.
class GRUCellInGeneralScan(nn.GRUCell):
    pass


class LSTMCellInGeneralScan(nn.LSTMCell):
    pass


class OptimizedLSTMCellInGeneralScan(nn.OptimizedLSTMCell):
    pass


def rnn(cell: type[nn.RNNCellBase], unroll: int = 1) -> Build:
    return lambda dtype, param_dtype: RNN(
        cell=cell(features=FEATURES, dtype=dtype, param_dtype=param_dtype), unroll=unroll
    )


def dense(dtype: Any, param_dtype: Any) -> nn.Dense:
    return nn.Dense(FEATURES, dtype=dtype, param_dtype=param_dtype)


def mlp(dtype: Any, param_dtype: Any) -> nn.Sequential:
    return nn.Sequential((dense(dtype, param_dtype), nn.relu, dense(dtype, param_dtype)))


def rnn_of(cell: type[nn.RNNCellBase], config: Any, unroll: int = 1) -> Build:
    return lambda dtype, param_dtype: RNN(
        cell=cell(config=config, dtype=dtype, param_dtype=param_dtype), unroll=unroll
    )


def memoroid(
    cell: type[MemoroidCell], config: Any, implementation: Any = "auto", chunk_size: int = 4
) -> Build:
    return lambda dtype, param_dtype: Memoroid(
        cell=cell(config=config, dtype=dtype, param_dtype=param_dtype),
        implementation=implementation,
        chunk_size=chunk_size,
    )


def memoroid_entry(name: str, cell: type[MemoroidCell], config: Any) -> Entry:
    """List a memoroid with all its implementations, of which ``"auto"`` must be one."""
    names = [name for name in cell.implementations if name != "auto"]
    alternatives = {name: memoroid(cell, config, name) for name in names}
    alternatives["one_chunk"] = memoroid(cell, config, "chunked", chunk_size=64)
    return Entry(name, memoroid(cell, config), alternatives)


PIECEWISE = ("cut", "reset", "causal", "row")
"""Laws whose programs are compiled once for all of them."""


def memoroid_in_chunks(
    name: str,
    cell: type[MemoroidCell],
    config: Any,
    at_gate: tuple[str, ...] = PIECEWISE,
) -> Entry:
    """List a memoroid with chunks beside ``"auto"``: its op is held to a loop in every way."""
    alternatives = {"chunked": memoroid(cell, config, "chunked")}
    return Entry(name, memoroid(cell, config), alternatives, at_gate=at_gate)


def self_attention(
    positional_embedding: Callable[[Any], Any] = lambda param_dtype: None,
    implementation: Any = "auto",
    block_size: int | None = 4,
    **options: Any,
) -> Build:
    """Attend to contexts of 4; by default a pass takes several blocks."""
    return lambda dtype, param_dtype: SelfAttention(
        SelfAttentionConfig(
            FEATURES,
            num_heads=2,
            context_length=4,
            positional_embedding=positional_embedding(param_dtype),
            head_dim=4,
            **options,
        ),
        implementation,
        block_size,
        dtype,
        param_dtype,
    )


def segment_recurrence(positional_embedding: Callable[[Any], Any]) -> Build:
    """Extend an attention's context of 4 by a memory of 3."""
    attention = self_attention(positional_embedding)
    return lambda dtype, param_dtype: Stack(
        (
            Projection(FEATURES, dtype=dtype, param_dtype=param_dtype),
            SegmentRecurrence(attention(dtype, param_dtype), 3, features=FEATURES),
        )
    )


def scanned(remat: bool = False) -> Build:
    """Two layers of which one is compiled, with their norms behind residuals."""

    def build(dtype, param_dtype):
        dtypes = {"dtype": dtype, "param_dtype": param_dtype}
        memory = Memoroid(MinGRUCell(MinGRUConfig(FEATURES), **dtypes))
        layer = tuple(
            PostNorm(Residual(module), nn.RMSNorm, **dtypes)
            for module in (memory, GLU(FEATURES, 2, **dtypes))
        )
        layers = Stack(layer * 2, remat=remat, scan_layers=True)
        return Stack((Projection(FEATURES, **dtypes), layers))

    return build


def experts(implementation: Any) -> Build:
    def build(dtype, param_dtype):
        ffn = FFN(FEATURES, 2, dtype=dtype, param_dtype=param_dtype)
        return MoE((ffn,) * 4, TopKRouter(4, param_dtype=param_dtype), implementation)

    return build


def experts_with_memory(dtype: Any, param_dtype: Any) -> MoE:
    memory, router = rnn(nn.MGUCell)(dtype, param_dtype), TopKRouter(3, param_dtype=param_dtype)
    return MoE((memory, memory, dense(dtype, param_dtype)), router)


def architecture(function: Callable[..., Any], **sizes: Any) -> Build:
    return lambda dtype, param_dtype: function(8, 1, dtype=dtype, param_dtype=param_dtype, **sizes)


def rwkv7_layers(dtype: Any, param_dtype: Any) -> Stack:
    """Two layers, for the second is given the values of the first."""
    return architectures.rwkv7(8, 2, num_heads=2, dtype=dtype, param_dtype=param_dtype)


ARCHITECTURES = (
    Entry(
        "gtrxl",
        architecture(architectures.gtrxl, num_heads=2, context_length=4, memory_length=3),
    ),
    Entry(
        "transformer_xl",
        architecture(architectures.transformer_xl, num_heads=2, context_length=4, memory_length=3),
    ),
    Entry("gpt2", architecture(architectures.gpt2, num_heads=2, context_length=4)),
    Entry("xlstm", architecture(architectures.xlstm, num_heads=2)),
    Entry("slstm_layer", architecture(architectures.slstm, num_heads=2)),
    Entry("mamba2_layer", architecture(architectures.mamba2)),
    Entry("lru_layer", architecture(architectures.lru)),
    Entry("s5_layer", architecture(architectures.s5)),
    Entry("min_gru_layer", architecture(architectures.min_gru)),
    Entry("attention_layer", architecture(architectures.attention, num_heads=2, context_length=4)),
    Entry("rwkv7_layers", rwkv7_layers),
    Entry("linear_attention_layer", architecture(architectures.linear_attention, num_heads=2)),
)
"""Compositions of what stands below on its own."""

REGISTRY = (
    Entry(
        "gru",
        rnn(nn.GRUCell),
        {"general_scan": rnn(GRUCellInGeneralScan), "unroll_4": rnn(nn.GRUCell, unroll=4)},
    ),
    Entry(
        "lstm",
        rnn(nn.LSTMCell),
        {
            "general_scan": rnn(LSTMCellInGeneralScan),
            "unroll_4": rnn(nn.LSTMCell, unroll=4),
            "optimized": rnn(nn.OptimizedLSTMCell),
            "optimized_in_general_scan": rnn(OptimizedLSTMCellInGeneralScan),
        },
    ),
    Entry("chrono_gru", rnn(ChronoGRUCell)),
    Entry("chrono_lstm", rnn(ChronoLSTMCell)),
    Entry("simple", rnn(nn.SimpleCell), {"unroll_4": rnn(nn.SimpleCell, unroll=4)}),
    Entry("mgu", rnn(nn.MGUCell)),
    Entry("slstm", rnn_of(sLSTMCell, sLSTMConfig(FEATURES, hidden_dim=8, num_heads=2))),
    Entry(
        "slstm_convolution",
        rnn_of(sLSTMCell, sLSTMConfig(FEATURES, hidden_dim=8, num_heads=2, kernel_size=4)),
    ),
    Entry("shm", rnn_of(SHMCell, SHMConfig(FEATURES, hidden_dim=4, num_calibrations=8))),
    Entry("rtu", rnn_of(RTUCell, RTUConfig(FEATURES, hidden_dim=4))),
    memoroid_entry("lru", LRUCell, LRUConfig(FEATURES, hidden_dim=4)),
    memoroid_entry("s5", S5Cell, S5Config(FEATURES, hidden_dim=8)),
    memoroid_entry(
        "s5_bilinear",
        S5Cell,
        S5Config(FEATURES, hidden_dim=4, discretization="bilinear", conjugate_symmetry=False),
    ),
    memoroid_entry("min_gru", MinGRUCell, MinGRUConfig(FEATURES)),
    memoroid_entry("ffm", FFMCell, FFMConfig(FEATURES, memory_size=4, context_size=3)),
    memoroid_entry(
        "linear_attention", LinearAttentionCell, LinearAttentionConfig(FEATURES, 2, head_dim=3)
    ),
    memoroid_entry(
        "mamba2",
        Mamba2Cell,
        Mamba2Config(FEATURES, num_heads=4, head_dim=3, state_dim=4, num_groups=2, kernel_size=4),
    ),
    memoroid_entry(
        "mlstm", mLSTMCell, mLSTMConfig(FEATURES, hidden_dim=8, num_heads=2, block_size=4)
    ),
    memoroid_in_chunks(
        "delta_net",
        DeltaNetCell,
        DeltaNetConfig(FEATURES, 2, value_dim=4, use_conv_bias=True, max_beta=2.0),
        at_gate=(),  # Kimi Delta Attention runs the same code, and more.
    ),
    memoroid_in_chunks(
        "gated_delta_net",
        GatedDeltaNetCell,
        GatedDeltaNetConfig(FEATURES, 2, value_dim=4, kernel_size=None, num_value_heads=4),
        at_gate=(),
    ),
    memoroid_in_chunks(
        "kimi_delta_attention",
        KimiDeltaAttentionCell,
        KimiDeltaAttentionConfig(FEATURES, 2, value_dim=4, rank=3),
    ),
    memoroid_in_chunks(
        "gated_linear_attention",
        GatedLinearAttentionCell,
        # Queries and keys may have any sign: outputs near 0 are what is left of their rounding.
        GatedLinearAttentionConfig(FEATURES, 2, value_dim=4, gate_rank=3, norm_epsilon=0.1),
    ),
    memoroid_in_chunks("rg_lru", RGLRUCell, RGLRUConfig(FEATURES, hidden_dim=4, num_heads=2)),
    memoroid_in_chunks(
        "rwkv7", RWKV7Cell, RWKV7Config(FEATURES, 2, decay_rank=2, erase_rank=2, gate_rank=2)
    ),
    memoroid_in_chunks(
        "mamba3",
        Mamba3Cell,
        Mamba3Config(FEATURES, num_heads=4, head_dim=3, state_dim=5, num_groups=2, use_norm=True),
    ),
    Entry("self_attention", self_attention(num_key_value_heads=1, normalize_query_key=True)),
    Entry("self_attention_rope", self_attention(lambda dtype: RoPE(rotary_dim=2))),
    Entry(
        "self_attention_alibi",
        self_attention(lambda dtype: ALiBi(2)),
        {"fused": self_attention(lambda dtype: ALiBi(2), "fused")},
    ),
    Entry("self_attention_learnable", self_attention(LearnablePositionalEmbedding)),
    Entry(
        "segment_recurrence",
        segment_recurrence(lambda dtype: RelativePositionalEmbedding(FEATURES, dtype)),
    ),
    Entry(
        "rl2",
        lambda *dtypes: RL2Wrapper(rnn(nn.GRUCell)(*dtypes), steps_per_trial=5),
        exempt={"reset": "its memory survives episodes, and is forgotten between trials"},
    ),
    Entry("scanned_stack", scanned(), {"remat": scanned(remat=True)}),
    Entry("mixture_of_experts", experts("dense"), {"dispatch": experts("dispatch")}),
    Entry("mixture_of_memories", experts_with_memory),
    Entry(
        "causal_conv1d",
        lambda dtype, param_dtype: Stack(
            (dense(dtype, param_dtype), CausalConv1d(FEATURES, 3, dtype, param_dtype))
        ),
    ),
    Entry("wrapped_mlp", lambda *dtypes: SequenceModelWrapper(mlp(*dtypes))),
    Entry("mlp", mlp),
    Entry("dense", dense),
    *ARCHITECTURES,
)
