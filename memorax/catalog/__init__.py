"""Suites and tasks by name, without importing JAX or a suite."""
