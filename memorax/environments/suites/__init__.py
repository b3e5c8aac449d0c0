"""Suites of environments, one file for each package."""
