"""Refuses a Python that is too old in one line, before pip looks for dependencies.

Everything else is in pyproject.toml.
"""

import sys

from setuptools import setup

if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(f"memorax needs Python 3.11 or newer, and this is {sys.version.split()[0]}")

setup()
