import contextlib

import pytest

from tests.experiments.lives import Lives


@pytest.fixture(scope="session")
def lives(tmp_path_factory):
    """Run memorax in real processes."""
    with contextlib.closing(Lives(tmp_path_factory.mktemp("lives"))) as lives:
        yield lives
