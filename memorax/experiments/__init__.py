"""Runs: configuration, training, results, and the command line."""
