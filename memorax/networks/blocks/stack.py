"""Blocks one after the other."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import DenyList
from jaxtyping import Array, Bool, Float

from memorax.networks.blocks.base import Block, unshared
from memorax.networks.sequence_models.base import Carry, apply_sequence_model


class Stack(Block):
    """Run blocks in sequence.

    An instance that appears several times is an independent layer each time: the parameters of
    ``Stack(blocks=(attention, ffn) * num_layers)`` are ``num_layers`` times those of one layer,
    however deep the blocks nest others.

    The carry is the tuple of the blocks' carries. With ``scan_layers`` it is that of one layer's
    blocks, with an axis of layers behind the batch.

    Attributes:
        blocks: Sequence models or plain modules, first to last.
        share_parameters: Whether an instance that appears several times has one set of parameters,
            as in the Universal Transformer and ALBERT. Carries are not shared.
        remat: Whether the backward pass recomputes the inside of each block instead of storing it:
            less memory, more time.
        scan_layers: Compile one layer and scan it over the others, so that compile time does not
            grow with depth. ``blocks`` must be one layer over and over, such as
            ``(attention, ffn) * num_layers``, of as many features as it reads; parameters have an
            axis of layers in front.

    Raises:
        ValueError: At construction, if there is no block, one is neither a module nor callable,
            or ``scan_layers`` finds no layer to scan; at the call, if a layer that is scanned
            changes the shape or widens the dtype of what it reads.

    Source: for the shared parameters Dehghani et al. 2019, arXiv 1807.03819, and Lan et al. 2020,
    arXiv 1909.11942.

    Examples:
        >>> attention = SelfAttention(SelfAttentionConfig(8, num_heads=2, context_length=4))
        >>> layer = (Residual(PreNorm(attention)), Residual(PreNorm(FFN(8))))
        >>> torso = Stack(blocks=layer * 3)  # three layers, each with its own parameters
        >>> (carry, outputs), params = jax.eval_shape(torso.init_with_output, key, inputs)
        >>> outputs.shape
        (2, 5, 8)
    """

    wrapped = "blocks"

    blocks: Sequence[Any]
    share_parameters: bool = False
    remat: bool = False
    scan_layers: bool = False

    def __post_init__(self):
        """Check the fields."""
        if not isinstance(self.blocks, Sequence) or not self.blocks:
            raise ValueError(f"Stack.blocks must be a tuple of blocks, got {self.blocks!r}")
        # A list could not be hashed.
        object.__setattr__(self, "blocks", tuple(self.blocks))
        if self.scan_layers:
            self._check_repetition()
        super().__post_init__()

    def setup(self):
        """Give each place its own parameters, unless they are shared."""
        blocks = self.blocks[: self._blocks_of_layer()] if self.scan_layers else self.blocks
        if self.share_parameters:
            self.layers = unshared(blocks)
        else:
            self.layers = tuple(unshared(block) for block in blocks)

    def read(
        self,
        inputs: Float[Array, "batch time features"],
        done: Bool[Array, "batch time"],
        carry: Carry,
    ) -> tuple[Carry, Float[Array, "batch time features_out"]]:
        """Read a chunk of a sequence; see ``Block``."""
        read = self._scan if self.scan_layers else self._read_layers
        return read(inputs, done, carry)

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return the tuple of the blocks' carries; see ``Stack``."""
        carry = super().initialize_carry(key, input_shape)
        if not self.scan_layers:
            return carry
        blocks = self._blocks_of_layer()
        layers = len(self.blocks) // blocks
        return jax.tree.map(lambda leaf: jnp.stack([leaf] * layers, axis=1), carry[:blocks])

    def _read_layers(self, inputs, done, carry):
        carry, features = list(carry), inputs
        for place, layer in enumerate(self.layers):
            rematerialises = self.remat and isinstance(layer, nn.Module)
            apply = nn.remat(apply_sequence_model) if rematerialises else apply_sequence_model
            carry[place], features = apply(layer, features, done, carry[place])
        return tuple(carry), features

    def _scan(self, inputs, done, carry):
        # Half precision would be rounded at each layer, as it is not without a scan.
        inputs = inputs.astype(jnp.promote_types(inputs.dtype, jnp.float32))

        def read_layer(stack, inputs, carry):
            carry, outputs = stack._read_layers(inputs, done, carry)
            dtype = jnp.promote_types(inputs.dtype, outputs.dtype)
            if (outputs.shape, dtype) != (inputs.shape, inputs.dtype):
                raise ValueError(
                    "Stack.scan_layers needs layers that return what they read, got inputs of "
                    f"shape {inputs.shape} and {inputs.dtype}, outputs of shape {outputs.shape} "
                    f"and {outputs.dtype}: put a Projection before the stack"
                )
            return outputs.astype(inputs.dtype), carry

        scan = nn.scan(
            read_layer,
            variable_axes={DenyList("params") if self.share_parameters else True: 0},
            variable_broadcast="params" if self.share_parameters else False,
            split_rngs={"params": not self.share_parameters, "dropout": True},
            in_axes=1,
            out_axes=1,
            length=len(self.blocks) // self._blocks_of_layer(),
        )
        outputs, carry = scan(self, inputs, carry)
        return carry, outputs

    @nn.nowrap
    def _blocks_of_layer(self):
        """Return the number of blocks in the layer that ``blocks`` repeats."""
        total = len(self.blocks)
        divisors = (length for length in range(1, total + 1) if total % length == 0)
        return next(
            length
            for length in divisors
            if all(map(self._are_one_layer, self.blocks, self.blocks[length:]))
        )

    @nn.nowrap
    def _are_one_layer(self, one, other):
        if self.share_parameters:
            return one is other
        # Names that Flax has given to either do not count.
        return one is other or unshared(one) == unshared(other)

    @nn.nowrap
    def _check_repetition(self):
        repeats = any(
            self._are_one_layer(one, other)
            for place, one in enumerate(self.blocks)
            for other in self.blocks[:place]
        )
        if repeats and self._blocks_of_layer() == len(self.blocks):
            raise ValueError(
                "Stack.scan_layers needs blocks that are one layer over and over, such as "
                "(attention, ffn) * num_layers, got some that repeat and some that do not: put "
                "those that repeat into a Stack of their own"
            )
