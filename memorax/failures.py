"""Failures that are raised in one layer and reported in another, which need not import it."""


class EnvironmentProcessError(Exception):
    """An environment failed in its process, or the process died; the message has its output."""
