"""Names and summaries of encoders and heads, without importing Flax."""

POLICY_HEADS = {
    "categorical": "probabilities of discrete actions",
    "gaussian": "a normal distribution of actions",
    "squashed_gaussian": "the same, within bounds",
    "deterministic": "one action, within bounds",
}
"""Heads that act."""

VALUE_HEADS = {
    "v_network": "a state's value",
    "hl_gauss_v_network": "a distribution of state values",
    "discrete_q_network": "a value for each action",
    "dueling_q_network": "a value, and actions' advantages",
    "c51_q_network": "a distribution for each action",
    "continuous_q_network": "a given action's value",
    "twin_continuous_q_network": "two values of a given action",
}
"""Heads that value."""

ENCODERS = {
    "auto": "chosen by the observation's shape",
    "mlp": "flattens everything",
    "minatar": "a small CNN for small pictures",
    "nature": "the CNN of DQN for Atari",
    "impala": "a residual CNN",
    "vit": "a vision transformer",
}
"""Encoders of observations."""

VIT_HEADS = 4


def check_encoder_features(encoder: str, features: int) -> None:
    """Raise ``ValueError`` if an encoder cannot be built of that width."""
    if encoder == "vit" and features % VIT_HEADS:
        raise ValueError(
            f"features must be divisible by {VIT_HEADS} for encoder vit, got {features}"
        )
