"""Experts, of which each step hears a few."""

import functools
from collections.abc import Sequence
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import DenyList
from jaxtyping import Array, Bool, Float, Int

from memorax.networks.blocks.base import Block, unshared
from memorax.networks.layers import linear
from memorax.networks.sequence_models.base import (
    Carry,
    apply_sequence_model,
    check_callable,
    initialize_carry,
)
from memorax.validation import check_between, check_positive, unknown_name

Implementation = Literal["auto", "dense", "dispatch"]

BLOCKS_PER_EXPERT = 4
"""Into how many blocks an expert's steps are cut when all experts are chosen equally often.

Each block is computed with a copy of its expert's parameters, and each expert fills up its last:
more blocks take more memory and waste less.
"""

LEAST_STEPS_OF_BLOCK = 8
"""Below which copying parameters costs about as much as computing experts that nobody chose."""


class TopKRouter(nn.Module):
    """Choose k experts for each step, by a linear map of it.

    With logits l = W x and p = softmax(l) over all E experts, the k largest are chosen, and the
    gates are p of these divided by their sum. Two losses are sown under ``losses``, times their
    coefficients, where f_e is how many of the steps have chosen expert e::

        load balancing   E sum_e f_e mean(p_e)
        router z-loss    mean(logsumexp(l)^2)

    f is sown as ``expert_load`` under ``intermediates``.

    Attributes:
        num_experts: Number of experts.
        k: Number of experts for each step. With 1 the gate is always 1, and the router learns from
            its losses alone.
        load_balancing_coefficient: The weight of the first loss; the papers' 0.01.
        z_coefficient: The weight of the second; the paper's 0.001.
        param_dtype: Of the parameters. Logits are computed in it, and in float32 at least: rounding
            must not decide who is chosen.

    Raises:
        ValueError: If a number is out of range, such as ``k`` above ``num_experts``.

    Source: Shazeer et al. 2017, arXiv 1701.06538; Fedus et al. 2022, "Switch Transformers", arXiv
    2101.03961, section 2.2; z-loss of Zoph et al. 2022, "ST-MoE", arXiv 2202.08906, equation 5;
    gates of Jiang et al. 2024, "Mixtral of Experts", arXiv 2401.04088.

    Examples:
        >>> router = TopKRouter(num_experts=4, k=2)
        >>> (gates, experts), variables = router.init_with_output(key, inputs)
        >>> gates.shape, experts.shape
        ((2, 5, 2), (2, 5, 2))
    """

    num_experts: int
    k: int = 2
    load_balancing_coefficient: int | float = 1e-2
    z_coefficient: int | float = 1e-3
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        """Check the fields."""
        check_positive("TopKRouter.num_experts", self.num_experts)
        check_positive("TopKRouter.k", self.k)
        if self.k > self.num_experts:
            raise ValueError(
                "TopKRouter.k must be at most num_experts, got "
                f"k={self.k}, num_experts={self.num_experts}"
            )
        check_between("TopKRouter.load_balancing_coefficient", self.load_balancing_coefficient, 0.0)
        check_between("TopKRouter.z_coefficient", self.z_coefficient, 0.0)
        super().__post_init__()

    @property
    def dtype(self) -> Any:
        """Dtype of the logits."""
        return jnp.promote_types(self.param_dtype, jnp.float32)

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "batch time features"]
    ) -> tuple[Float[Array, "batch time k"], Int[Array, "batch time k"]]:
        """Return each step's gates and the experts that they belong to, the largest gate first."""
        logits = linear(self, self.num_experts, "router")(inputs)
        largest, experts = jax.lax.top_k(logits, self.k)
        if not self.is_initializing():
            self._sow_losses(logits, experts)
        return nn.softmax(largest), experts

    def _sow_losses(self, logits, experts):
        chosen = jax.nn.one_hot(experts, self.num_experts, dtype=logits.dtype).sum(-2)
        load = chosen.mean((0, 1))
        balance = self.num_experts * (load * nn.softmax(logits).mean((0, 1))).sum()
        z_loss = jnp.square(jax.nn.logsumexp(logits, axis=-1)).mean()
        self.sow("losses", "load_balancing", self.load_balancing_coefficient * balance)
        self.sow("losses", "router_z", self.z_coefficient * z_loss)
        self.sow("intermediates", "expert_load", load)


class MoE(Block):
    """Mix the outputs of the experts that a router chooses for each step.

    ``MoE(experts=(FFN(features=64),) * 8, router=TopKRouter(num_experts=8, k=2))``: an instance
    that appears several times is another expert each time. No expert has a capacity, and no step
    is dropped.

    Experts may be sequence models: each reads every step, so that its memory does not depend on
    whom the router has chosen, and keeps its own carry. The carry is the tuple of the experts'.

    Attributes:
        experts: Sequence models or plain modules, whose outputs are equally wide.
        router: A ``TopKRouter``, or a module that returns gates and experts as it does.
        implementation: ``"dense"`` computes every expert for every step; ``"dispatch"`` sorts the
            steps by expert and computes the chosen ones alone, for experts that are all alike,
            hold no carry, and only map inputs to outputs. Results are the same. ``"auto"``
            dispatches where it can, when it computes less and blocks are large enough.

    Raises:
        ValueError: At construction, if an expert or the router is neither a module nor callable,
            the router expects another number of experts, or experts to dispatch are not alike or
            hold a carry; at the call, if the experts' outputs differ in width, or those to dispatch
            draw, sow or keep anything.

    Source: as ``TopKRouter``; blocks of steps with one expert each as in Gale et al. 2023,
    "MegaBlocks", arXiv 2211.15841.

    Examples:
        >>> moe = MoE(experts=(FFN(16),) * 4, router=TopKRouter(num_experts=4, k=2))
        >>> (carry, outputs), params = jax.eval_shape(moe.init_with_output, key, inputs)
        >>> outputs.shape
        (2, 5, 16)
    """

    wrapped = "experts"

    experts: Sequence[Any]
    router: Any
    implementation: Implementation = "auto"

    def __post_init__(self):
        """Check the fields."""
        if not isinstance(self.experts, Sequence) or not self.experts:
            raise ValueError(f"MoE.experts must be a tuple of experts, got {self.experts!r}")
        # A list could not be hashed.
        object.__setattr__(self, "experts", tuple(self.experts))
        check_callable("MoE.router", self.router)
        expected = getattr(self.router, "num_experts", len(self.experts))
        if expected != len(self.experts):
            raise ValueError(
                "MoE.router must have as many experts as MoE.experts, got "
                f"num_experts={expected} and {len(self.experts)} experts"
            )
        choices = get_args(Implementation)
        if self.implementation not in choices:
            what = unknown_name("implementation", self.implementation, choices)
            raise ValueError(f"MoE.implementation: {what}")
        if self.implementation == "dispatch" and not self._are_alike_and_stateless():
            raise ValueError(
                'MoE.implementation "dispatch" needs experts that are all alike and hold no '
                f"carry, got {', '.join(type(expert).__name__ for expert in self.experts)}"
            )
        super().__post_init__()

    def setup(self):
        """Give each expert its own parameters."""
        self.expert = tuple(unshared(expert) for expert in self.experts)

    def read(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"],
        carry: Carry,
    ) -> tuple[Carry, Float[Array, "batch time features_out"]]:
        """Read a chunk of a sequence; see ``Block``."""
        gates, chosen = self.router(inputs)
        if not self.is_initializing() and self._dispatches(inputs, chosen):
            return carry, self._dispatch(inputs, gates, chosen)
        carry, outputs = self._read_with_all(inputs, done, carry)
        mixed = jnp.zeros((), outputs[0].dtype)
        for expert, output in enumerate(outputs):
            heard = chosen == expert
            gate = jnp.where(heard, gates, 0).sum(-1, keepdims=True)
            # An output that no gate lets through may be infinite.
            mixed += jnp.where(heard.any(-1, keepdims=True), gate * output, 0)
        return carry, mixed

    def _read_with_all(self, inputs, done, carry):
        read = [
            apply_sequence_model(expert, inputs, done, expert_carry)
            for expert, expert_carry in zip(self.expert, carry, strict=True)
        ]
        carries, outputs = zip(*read, strict=True)
        sizes = [output.shape[-1] for output in outputs]
        if len(set(sizes)) > 1:
            raise ValueError(f"MoE.experts must have outputs of one size, got features {sizes}")
        return carries, outputs

    def _dispatches(self, inputs, chosen):
        if self.implementation == "dense":
            return False
        if self.implementation == "dispatch":
            if not self._are_pure(inputs):
                raise ValueError(
                    'MoE.implementation "dispatch" needs experts that neither draw random numbers '
                    "nor sow nor keep variables other than parameters, got "
                    f"{type(self.experts[0]).__name__}"
                )
            return True
        saves = len(self.experts) > (1 + 1 / BLOCKS_PER_EXPERT) * chosen.shape[-1]
        large = self._block_size(chosen) >= LEAST_STEPS_OF_BLOCK
        return saves and large and self._are_alike_and_stateless() and self._are_pure(inputs)

    def _are_pure(self, inputs):
        """Return whether experts only map inputs to outputs, without state or random numbers."""
        compute = nn.apply(
            lambda expert, step: apply_sequence_model(expert, step)[1],
            unshared(self.experts[0]),
            mutable=DenyList("params"),
        )
        step = jax.ShapeDtypeStruct((1, 1, inputs.shape[-1]), inputs.dtype)
        _, written = jax.eval_shape(compute, _params(self.expert[0]), step)
        return not jax.tree.leaves(written) and not self.has_rng("dropout")

    def _dispatch(self, inputs, gates, chosen):
        """Compute the chosen experts alone, in blocks of steps that have chosen the same one."""
        features, k = inputs.shape[-1], chosen.shape[-1]
        expert, place = _blocks_by_expert(
            chosen.reshape(-1), len(self.experts), self._block_size(chosen)
        )
        steps = jnp.full(expert.size * self._block_size(chosen), chosen.size)
        steps = steps.at[place].set(jnp.arange(chosen.size)) // k
        blocks = inputs.reshape(-1, features).at[steps].get(mode="fill", fill_value=0)
        blocks = blocks.reshape(expert.size, -1, 1, features)

        @functools.partial(nn.apply, module=unshared(self.experts[0]))
        def compute(module, block):
            return apply_sequence_model(module, block)[1]

        variables = jax.tree.map(
            lambda *leaves: jnp.stack(leaves)[expert], *map(_params, self.expert)
        )
        outputs = jax.vmap(compute)(variables, blocks)
        outputs = outputs.reshape(-1, outputs.shape[-1])[place].reshape(*chosen.shape, -1)
        return (gates[..., None] * outputs).sum(-2)

    def _block_size(self, chosen):
        return -(-chosen.size // (BLOCKS_PER_EXPERT * len(self.experts)))

    @nn.nowrap
    def _are_alike_and_stateless(self):
        first, *others = map(unshared, self.experts)
        carry = jax.eval_shape(lambda: initialize_carry(first, jax.random.key(0), (1, 1)))
        return (
            isinstance(first, nn.Module)
            and all(other == first for other in others)
            and not jax.tree.leaves(carry)
        )


def _params(module: nn.Module) -> dict[str, Any]:
    return {"params": module.variables.get("params", {})}


def _blocks_by_expert(
    chosen: Int[Array, " steps"], num_experts: int, block_size: int
) -> tuple[Int[Array, " blocks"], Int[Array, " steps"]]:
    """Sort steps by the expert they have chosen, into blocks of a single expert each.

    Returns:
        The expert of each block, and the place of each step, counted over all blocks. Blocks are
        as many as can be needed, whatever was chosen.
    """
    num_blocks = (chosen.size + num_experts * (block_size - 1)) // block_size
    counts = jnp.bincount(chosen, length=num_experts)
    blocks = -(-counts // block_size)
    order = jnp.argsort(chosen)
    by_expert = chosen[order]
    rank = jnp.arange(chosen.size) - (jnp.cumsum(counts) - counts)[by_expert]
    places = (jnp.cumsum(blocks) - blocks)[by_expert] * block_size + rank
    expert = jnp.searchsorted(jnp.cumsum(blocks), jnp.arange(num_blocks), side="right")
    # Blocks that are left over compute zeros which nobody reads.
    return jnp.minimum(expert, num_experts - 1), jnp.zeros_like(order).at[order].set(places)
