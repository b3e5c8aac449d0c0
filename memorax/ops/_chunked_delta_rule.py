"""The recurrences of ``delta_rule.py`` chunk by chunk.

Inside a chunk every step's state is that before the chunk, decayed, plus what was written since.
Put into e = S~^T erase_key, that is a triangular system for the e of all steps of the chunk::

    (I - M) e = (decayed erase keys) S + N values

where M and N hold the products of erase keys with the keys written before, decayed and, in M,
scaled. It is solved by substitution; what each query reads is then a product of matrices, as in
attention, and only the states between chunks are computed one after another. The matrix I - M has
ones on its diagonal, and no decay is ever divided by: the weight between two steps is the
exponential of a difference of sums of logarithms, masked before the exponential.

The backward pass is JAX's own; it keeps the states between chunks and computes the rest again.

Source: Yang et al. 2024, arXiv 2406.06484, section 3.2 (the WY representation).
"""

import jax
import jax.numpy as jnp

from memorax.ops import _compensated_sum


def run_in_chunks(chunks, state):
    """Return the last state and the outputs, ``(time, batch, heads, value_dim)``.

    Args:
        chunks: ``delta_rule.Inputs``, each ``(chunks, chunk, batch, ...)``.
        state: ``(batch, heads, key_dim, value_dim)``.
    """
    sums = None if chunks.log_decay is None else _sums(chunks.log_decay, chunks.done)
    last, outputs = jax.lax.scan(jax.checkpoint(_chunk), state, (chunks, sums))
    return last, outputs.reshape(-1, *outputs.shape[2:])


def _chunk(state, inputs_and_sums):
    inputs, sums = inputs_and_sums
    done = jnp.moveaxis(inputs.done, 0, -1)[:, None]
    inputs, poison = _finite_inputs(inputs)
    inputs = jax.tree.map(_heads_first, inputs)
    query, writes, erase_key, _, _ = inputs
    state, state_poison = _finite(state, axes=(-2, -1))

    size = done.shape[-1]
    episode = jnp.cumsum(done, axis=-1)
    before = episode == 0
    # (..., t, s): what step s wrote is there to be read at step t.
    same_episode = (episode[..., :, None] == episode[..., None, :]) & jnp.tril(
        jnp.ones((size, size), bool)
    )
    earlier = same_episode & ~jnp.eye(size, dtype=bool)
    weights = _Weights(jax.tree.map(_heads_first, sums), same_episode, before)

    from_state = jnp.einsum("bhtk,bhkv->bhtv", weights.from_state(query), state)
    outputs, entered = from_state, []
    erased = _erased(weights, writes, erase_key, earlier, state)
    for write in writes:
        entry = write.value
        if write.scale is not None:
            removed = write.scale[..., None] * erased
            entry = removed if entry is None else entry + removed
        entered.append((write.key, entry))
        read = jnp.where(same_episode, weights.products(query, write.key), 0)
        outputs += jnp.einsum("bhts,bhsv->bhtv", read, entry)
    state = weights.of_state_at_end * state
    for key, entry in entered:
        state += jnp.einsum("bhtk,bhtv->bhkv", weights.to_end(key), entry)

    # NaN in every output of the episode from the step on where it entered, and nowhere else.
    entry_poison = jnp.any(same_episode & poison[0][..., None, :], axis=-1)
    entry_poison |= before & state_poison[..., None]
    outputs = jnp.where((entry_poison | poison[1])[..., None], jnp.nan, outputs)
    state = jnp.where(entry_poison[..., -1, None, None], jnp.nan, state)
    return state, jnp.moveaxis(outputs, 2, 0)


def _erased(weights, writes, erase_key, earlier, state):
    """Solve for what is read with the erase keys."""
    if erase_key is None:
        return None
    right = jnp.einsum("bhtk,bhkv->bhtv", weights.from_state(erase_key), state)
    matrix = jnp.eye(earlier.shape[-1], dtype=state.dtype)
    for write in writes:
        read = jnp.where(earlier, weights.products(erase_key, write.key), 0)
        if write.value is not None:
            right += jnp.einsum("bhts,bhsv->bhtv", read, write.value)
        if write.scale is not None:
            matrix = matrix - read * write.scale[..., None, :]
    return jax.lax.linalg.triangular_solve(
        matrix, right, left_side=True, lower=True, unit_diagonal=True
    )


class _Weights:
    """Decays between the steps of a chunk, by heads or by key channels."""

    def __init__(self, sums, same_episode, before):
        at_end = same_episode[..., -1, :, None]
        before = before[..., None]
        self._by_channel = sums is not None and sums[0].ndim == 4
        if sums is None:
            self._between, self._of_state, self._to_end = 1.0, before, at_end
        else:
            total, error = sums if self._by_channel else (part[..., None] for part in sums)
            logs = (total[..., :, None, :] - total[..., None, :, :]) + (
                error[..., :, None, :] - error[..., None, :, :]
            )
            # Masked before the exponential: later steps would overflow it.
            logs = jnp.where(same_episode[..., None], logs, -jnp.inf)
            self._between = jnp.exp(logs)
            self._to_end = self._between[..., -1, :, :]
            self._of_state = jnp.where(before, jnp.exp(total + error), 0)
            if not self._by_channel:
                self._between = self._between[..., 0]
        self.of_state_at_end = jnp.swapaxes(self._of_state[..., -1:, :], -1, -2)

    def products(self, reader, key):
        """Return the products of what reads at t with the keys of s, decayed in between."""
        if self._by_channel:
            return (reader[..., :, None, :] * self._between * key[..., None, :, :]).sum(-1)
        return jnp.einsum("bhtk,bhsk->bhts", reader, key) * self._between

    def from_state(self, reader):
        """Weight queries or keys that read the state before the chunk."""
        return reader * self._of_state

    def to_end(self, key):
        """Weight keys by their decay to the chunk's end."""
        return key * self._to_end


def _sums(log_decay, done):
    """Add up log decays from the episode's or the chunk's first step on, as number and error.

    In all chunks at once: inside the scan over chunks there would be a sequential step for each
    step of time.
    """

    def step(carry, at_time):
        decay, done = at_time
        carry = _compensated_sum.add(*carry, decay, done)
        return carry, carry

    finite = jnp.where(jnp.isfinite(log_decay), log_decay, 0)
    done = done.reshape(done.shape + (1,) * (log_decay.ndim - done.ndim))
    over = jnp.moveaxis(finite, 1, 0), jnp.moveaxis(done, 1, 0)
    nothing = jnp.zeros_like(over[0][0])
    _, sums = jax.lax.scan(step, (nothing, nothing), over)
    return tuple(jnp.moveaxis(part, 0, 1) for part in sums)


def _heads_first(values):
    """Bring (chunk, batch, heads, ...) to (batch, heads, chunk, ...)."""
    return jnp.moveaxis(values, 0, 2)


def _finite(values, axes):
    """Return values with 0 where not finite, and where along the other axes any was not.

    In a product of matrices a NaN times a weight of zero is NaN: it would leave its episode.
    """
    finite = jnp.isfinite(values)
    return jnp.where(finite, values, 0), ~finite.all(axes)


def _finite_inputs(inputs):
    """Return finite inputs without ``done``, and where what is written and read was not finite."""
    query, query_poison = _finite(inputs.query, -1)
    parts, structure = jax.tree.flatten(inputs._replace(query=None, done=None))
    # Scales and decays of a head have no axis to look along.
    parts = [_finite(part, tuple(range(3, part.ndim))) for part in parts]
    inputs = jax.tree.unflatten(structure, [part for part, _ in parts])
    poison = jnp.stack([bad for _, bad in parts]).any(0)
    return inputs._replace(query=query), (_heads_first(poison), _heads_first(query_poison))
