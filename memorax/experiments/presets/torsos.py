"""Torsos by name: what each builds, and how many layers it has by default.

Flax is imported when a torso is built: the command line reads the names before.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from memorax.experiments.files.trust import main_module
from memorax.validation import find_name

STEPS_PER_TRIAL = 128
"""Steps between the resets of RL²'s memory."""


@dataclass(frozen=True)
class Torso:
    """The builder of a torso by name, and its description.

    Attributes:
        build: From ``features``, and from ``num_layers`` and ``memory_horizon`` where the fields
            below say so, to a sequence model or plain module; or the name of such a function in
            ``memorax.networks.architectures``.
        num_layers: Layers by default; ``None``: ``build`` has no ``num_layers``.
        has_memory_horizon: Whether ``build`` has a ``memory_horizon``.
        wiring: The parts of a layer, for the docs.
        recurrence_parameters: Names of the parameters that set how long and in what rhythm a state
            lasts, which ``recurrence_learning_rate_scale`` trains apart from the rest.
        across_episodes: Whether it remembers across episodes, and so needs the previous action and
            reward at their first steps too.
        features_divisor: A divisor of ``features``, for heads of equal width, which
            RoPE needs to be even.
        least_features: The fewest ``features``, for its norms.
        kind: How it runs over time, one of ``KINDS``.
        paper: Where it was published, as shortly as it can be found.
    """

    build: Callable[..., Any] | str
    num_layers: int | None = None
    has_memory_horizon: bool = False
    wiring: str = ""
    recurrence_parameters: tuple[str, ...] = ()
    across_episodes: bool = False
    features_divisor: int = 1
    least_features: int = 1
    kind: str = "own"
    paper: str = ""


KINDS = {
    "recurrent": "one step after another",
    "diagonal": "parallel over time",
    "outer product": "matrix state, in chunks",
    "delta rule": "matrix state, in chunks",
    "attention": "grows with its context",
    "mixed": "one step after another",
    "no memory": "each step by itself",
    "own": "",
}
"""Cost of each kind of torso over time."""

RING = ("nu_log", "theta_log", "gamma_log")
"""The parameters of the LRU's states, of which the RTU has the first two."""


def _mlp(features: int, num_layers: int) -> Any:
    import flax.linen as nn  # noqa: PLC0415

    # A tuple, which can be hashed, of one instance a layer, which Flax would share otherwise.
    layers = [(nn.Dense(features), nn.relu) for _ in range(num_layers)]
    return nn.Sequential(tuple(itertools.chain.from_iterable(layers)))


def _rl2_gru(features: int) -> Any:
    from memorax.networks import architectures  # noqa: PLC0415

    return architectures.rl2_gru(features, STEPS_PER_TRIAL)


TORSOS: dict[str, Torso] = {
    "gru": Torso("gru", 1, True, "GRU", kind="recurrent", paper="arXiv 1406.1078"),
    "lstm": Torso("lstm", 1, True, "LSTM", kind="recurrent", paper="Hochreiter 1997"),
    "simple": Torso(
        "simple", 1, False, "simple recurrent network", kind="recurrent", paper="Elman 1990"
    ),
    "slstm": Torso(
        *("slstm", 1, True, "pre-norm residual sLSTM, then GEGLU"),
        features_divisor=4,
        least_features=8,
        kind="recurrent",
        paper="arXiv 2405.04517",
    ),
    "shm": Torso(
        "shm",
        1,
        False,
        "stable Hadamard memory",
        least_features=2,
        kind="recurrent",
        paper="arXiv 2410.10132",
    ),
    "rtu": Torso(
        "rtu", 1, True, "recurrent trace units", RING, kind="recurrent", paper="arXiv 2409.01449"
    ),
    "lru": Torso(
        *("lru", 2, True, "pre-norm residual LRU, GELU, GLU", RING),
        least_features=2,
        kind="diagonal",
        paper="arXiv 2303.06349",
    ),
    "s5": Torso(
        *("s5", 2, True, "pre-norm residual S5, GELU, GLU"),
        recurrence_parameters=("Lambda_real", "Lambda_imag", "log_step"),
        least_features=2,
        kind="diagonal",
        paper="arXiv 2208.04933",
    ),
    "min_gru": Torso(
        "min_gru",
        2,
        True,
        "pre-norm residual convolution, then minGRU and FFN",
        kind="diagonal",
        paper="arXiv 2410.01201",
    ),
    "mamba2": Torso(
        *("mamba2", 1, True, "pre-norm residual Mamba-2"),
        recurrence_parameters=("A_log", "dt_bias"),
        kind="outer product",
        paper="arXiv 2405.21060",
    ),
    "mamba3": Torso(
        *("mamba3", 2, True, "pre-norm residual Mamba-3, then SwiGLU"),
        recurrence_parameters=("dt_bias",),
        kind="outer product",
        paper="arXiv 2603.15569",
    ),
    "delta_net": Torso(
        *("delta_net", 1, False, "pre-norm residual DeltaNet, then SwiGLU"),
        features_divisor=4,
        kind="delta rule",
        paper="arXiv 2406.06484",
    ),
    "gated_delta_net": Torso(
        *("gated_delta_net", 1, True, "pre-norm residual Gated DeltaNet, then SwiGLU"),
        recurrence_parameters=("A_log", "dt_bias"),
        features_divisor=4,
        kind="delta rule",
        paper="arXiv 2412.06464",
    ),
    "kimi_delta_attention": Torso(
        *("kimi_delta_attention", 1, True),
        "pre-norm residual Kimi Delta Attention, then SwiGLU",
        recurrence_parameters=("A_log", "dt_bias"),
        features_divisor=4,
        kind="delta rule",
        paper="arXiv 2510.26692",
    ),
    "gated_linear_attention": Torso(
        *("gated_linear_attention", 2, False),
        "pre-norm residual gated linear attention with convolution, then SwiGLU",
        features_divisor=4,
        kind="outer product",
        paper="arXiv 2312.06635",
    ),
    "rwkv7": Torso(
        *("rwkv7", 2, False),
        "pre-norm residual RWKV-7 time mixing, then channel mixing",
        features_divisor=4,
        least_features=8,
        kind="delta rule",
        paper="arXiv 2503.14456",
    ),
    "rg_lru": Torso(
        *("rg_lru", 2, True, "pre-norm residual RG-LRU with convolution, then GEGLU"),
        recurrence_parameters=("a_param",),
        features_divisor=4,
        kind="diagonal",
        paper="arXiv 2402.19427",
    ),
    "mlstm": Torso(
        *("mlstm", 1, True, "pre-norm residual mLSTM"),
        features_divisor=2,
        least_features=4,
        kind="outer product",
        paper="arXiv 2405.04517",
    ),
    "ffm": Torso(
        *("ffm", 1, True, "fast and forgetful memory", ("a", "b")),
        least_features=2,
        kind="diagonal",
        paper="arXiv 2310.04128",
    ),
    "linear_attention": Torso(
        *("linear_attention", 2, False),
        "pre-norm residual convolution, then linear attention, then FFN",
        least_features=2,
        kind="outer product",
        paper="arXiv 2006.16236",
    ),
    "attention": Torso(
        *("attention", 2, False),
        "pre-norm residual attention with RoPE, then SwiGLU",
        features_divisor=8,
        kind="attention",
        paper="arXiv 2302.13971",
    ),
    "gtrxl": Torso(
        *("gtrxl", 2, False),
        "pre-norm attention with memory, then FFN, with GRU gates",
        features_divisor=4,
        kind="attention",
        paper="arXiv 1910.06764",
    ),
    "transformer_xl": Torso(
        *("transformer_xl", 2, False),
        "post-norm residual attention with memory, then FFN",
        features_divisor=4,
        kind="attention",
        paper="arXiv 1901.02860",
    ),
    "gpt2": Torso(
        *("gpt2", 2, False, "pre-norm residual attention, then FFN"),
        features_divisor=4,
        kind="attention",
        paper="Radford 2019",
    ),
    "xlstm": Torso(
        *("xlstm", 2, True, "mLSTM and sLSTM layers by turns"),
        features_divisor=4,
        least_features=8,
        kind="mixed",
        paper="arXiv 2405.04517",
    ),
    "rl2_gru": Torso(
        _rl2_gru,
        wiring="GRU that remembers across the episodes of a trial",
        across_episodes=True,
        kind="recurrent",
        paper="arXiv 1611.02779",
    ),
    "mlp": Torso(_mlp, 1, False, "Dense and ReLU, no memory", kind="no memory"),
}
"""Torsos by name, which stand between an encoder over all inputs and a head with a hidden layer."""

RENAMED = {"mamba2_stack": "mamba2", "s5_stack": "s5", "min_gru_stack": "min_gru"}
"""Names of torsos that are now the published layers of another name."""


def find_torso(name: str) -> str:
    """Return the name of a torso, however its case, ``_`` and ``-`` are written.

    Raises:
        ValueError: If there is no torso of that name, or it was renamed.
    """
    if name in RENAMED:
        raise ValueError(f"torso {name!r} is now called {RENAMED[name]!r}")
    return find_name("torso", name, TORSOS)


def registering_modules(names: Iterable[str]) -> tuple[str, ...]:
    """Return the modules outside of memorax that have registered some of the torsos.

    Args:
        names: Names of torsos.
    """
    modules = (getattr(TORSOS[name].build, "__module__", "") for name in names)
    own = (main_module() if module == "__main__" else module for module in modules)
    return tuple(
        dict.fromkeys(module for module in own if module and module.partition(".")[0] != "memorax")
    )


def make_torso(
    name: str, features: int, num_layers: int | None = None, memory_horizon: float | None = None
) -> Any:
    """Return the sequence model or plain module that a name builds.

    Args:
        name: One of ``TORSOS``.
        features: Its width.
        num_layers: How many layers; ``None``: as the table has it.
        memory_horizon: Steps that its longest memory lasts before any training; ``None``: its own
            default. Torsos without one ignore it.
    """
    torso = TORSOS[name]
    options: dict[str, Any] = {}
    if torso.num_layers is not None:
        options["num_layers"] = torso.num_layers if num_layers is None else num_layers
    if torso.has_memory_horizon and memory_horizon is not None:
        options["memory_horizon"] = memory_horizon
    build = torso.build
    if isinstance(build, str):
        from memorax.networks import architectures  # noqa: PLC0415

        build = getattr(architectures, build)
    return build(features, **options)


def check_torso_options(
    name: str,
    features: int,
    num_layers: int | None,
    memory_horizon: float | None,
    recurrence_learning_rate_scale: float,
) -> None:
    """Raise ``ValueError`` if a torso has no such option or cannot be built of that width.

    ``mlp`` accepts all, as a twin does.
    """
    torso = TORSOS[name]
    if features % torso.features_divisor:
        raise ValueError(
            f"features must be divisible by {torso.features_divisor} for torso {name}, got "
            f"{features}"
        )
    if features < torso.least_features:
        raise ValueError(
            f"features must be at least {torso.least_features} for torso {name}, got {features}"
        )
    if recurrence_learning_rate_scale != 1 and not torso.recurrence_parameters and name != "mlp":
        names = ", ".join(name for name, other in TORSOS.items() if other.recurrence_parameters)
        raise ValueError(
            f"torso {name} has no parameters for recurrence_learning_rate_scale, got "
            f"{recurrence_learning_rate_scale}; these have: {names}"
        )
    if num_layers is not None and torso.num_layers is None:
        raise ValueError(f"torso {name} has no num_layers, got {num_layers}")
    if memory_horizon is not None and not torso.has_memory_horizon and name != "mlp":
        names = ", ".join(name for name, other in TORSOS.items() if other.has_memory_horizon)
        raise ValueError(
            f"torso {name} has no memory_horizon, got {memory_horizon}; these have: {names}"
        )


def num_layers_help() -> str:
    """Return one sentence with the layers of every torso."""
    layers: dict[int, list[str]] = {}
    for name, torso in TORSOS.items():
        if torso.num_layers is not None:
            layers.setdefault(torso.num_layers, []).append(name)
    counted = "; ".join(f"{number} for {', '.join(names)}" for number, names in layers.items())
    return f"Layers of the torso; None: {counted}."


def torsos_table() -> str:
    """Return a table of all torsos in Markdown, for the docs."""
    rows = [
        "| name | layers | a layer | kind | cost over time | `--memory-horizon` | paper |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, torso in TORSOS.items():
        horizon = "yes" if torso.has_memory_horizon else ""
        cells = (f"`{name}`", torso.num_layers or "", torso.wiring, torso.kind, KINDS[torso.kind])
        rows.append(f"| {' | '.join(map(str, (*cells, horizon, torso.paper)))} |")
    return "\n".join(rows)


def states_table(features: int = 64) -> str:
    """Return a table of the wiring and the state of each torso in Markdown, for the docs."""
    from memorax.networks import inspect  # noqa: PLC0415

    rows = [
        "| name | paper | a layer | layers | numbers of state |",
        "|---|---|---|---|---|",
    ]
    for name, torso in TORSOS.items():
        # Counters have 32 bits as well; flags of a byte are left out.
        numbers = inspect.summary(make_torso(name, features), depth=0)[""].carry_bytes // 4
        cells = f"`{name}`", torso.paper, torso.wiring, torso.num_layers or "", f"{numbers:,}"
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)
