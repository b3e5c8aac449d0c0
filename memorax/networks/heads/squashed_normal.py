"""A normal distribution squashed into an interval."""

import distrax
import jax.numpy as jnp
from jaxtyping import Array, Float


class SquashedNormal(distrax.Transformed):
    """The distribution of low + (high - low) (tanh(u) + 1) / 2 with u normal in each dimension.

    By the change of variables, with a the action and d its dimensions::

        log p(a) = log N(u) - sum_d [2 (log 2 - u - softplus(-2 u)) + log((high - low) / 2)]

    An action near a bound no longer tells u: in float32 all u above 9 give the bound itself. Hence
    the log-probability is exact where u is known, in ``sample_and_log_prob`` and
    ``log_prob_of_latent``, and ``log_prob`` is as exact as the action is.

    Samples are reparametrised: gradients flow through them to ``mean`` and ``scale``.

    Args:
        mean: Of u.
        scale: The standard deviation of u.
        low: The least action, in each dimension.
        high: The largest action, in each dimension.

    Source: Haarnoja et al. 2018, arXiv 1801.01290, appendix C.
    """

    def __init__(
        self,
        mean: Float[Array, "*axes actions"],
        scale: Float[Array, "*axes actions"],
        low: Float[Array, "*#actions"],
        high: Float[Array, "*#actions"],
    ):
        affine = distrax.ScalarAffine(shift=(low + high) / 2, scale=(high - low) / 2)
        super().__init__(
            distrax.MultivariateNormalDiag(loc=mean, scale_diag=scale),
            distrax.Block(distrax.Chain([affine, distrax.Tanh()]), 1),
        )
        self._affine = affine

    def log_prob(self, value: Float[Array, "*axes actions"]) -> Float[Array, "*axes"]:
        """Return the log-density of actions, finite at the bounds too.

        Where an action is at a bound, or beyond it as rounding may leave one, u is taken to be the
        furthest that any action inside tells.
        """
        squashed = self._affine.inverse(value)
        limit = 1 - jnp.finfo(squashed.dtype).epsneg
        return self.log_prob_of_latent(jnp.arctanh(jnp.clip(squashed, -limit, limit)))

    def log_prob_of_latent(self, latent: Float[Array, "*axes actions"]) -> Float[Array, "*axes"]:
        """Return the log-density of the actions that values u before squashing become."""
        log_det = self.bijector.forward_log_det_jacobian(latent)
        return jnp.subtract(self.distribution.log_prob(latent), log_det)

    def mode(self) -> Float[Array, "*axes actions"]:
        """Return what the most likely u becomes, the median action of each dimension.

        The density itself has its peaks at the bounds when the scale is large, where nobody who
        asks for a deterministic policy wants to go.
        """
        return jnp.asarray(self.bijector.forward(self.distribution.mode()))
