"""Runs: what to train, training it, what it leaves, and the command line."""
