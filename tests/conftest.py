import gc
import itertools
import os
from pathlib import Path

from tests.xla_flags import FAST_COMPILATION

# Sharding along the batch needs a second device, and how many there are is fixed at import.
os.environ["XLA_FLAGS"] = (
    f"--xla_force_host_platform_device_count=2 {FAST_COMPILATION} {os.environ.get('XLA_FLAGS', '')}"
).strip()

import hypothesis
import jax
import jaxtyping
import pytest

from tests import compilation_cache

# Nearly all the time goes into compiling small programs, so even the smallest are kept.
jax.config.update("jax_compilation_cache_dir", str(compilation_cache.FOLDER))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# The same cases in every run: a failure is a change of the code, never the luck of the draw. The
# first case of a test compiles, which no deadline could allow for.
hypothesis.settings.register_profile(
    "memorax",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=10,
    report_multiple_bugs=False,
)
hypothesis.settings.load_profile("memorax")


MOST_MEMORY_MAPS = 30_000
"""Linux allows a process 65,530 by default, and every compiled program takes some."""


@pytest.fixture(autouse=True)
def few_memory_maps():
    """Let go of compiled programs before so many are mapped that the next one crashes."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MEMORY_MAPS:
        jax.clear_caches()
        gc.collect()


def pytest_sessionstart(session):
    """Keep what earlier runs have compiled from growing without limit."""
    if not hasattr(session.config, "workerinput"):
        compilation_cache.forget_oldest(compilation_cache.FOLDER, compilation_cache.MOST_BYTES)


def pytest_collection_finish():
    """Let the garbage collector search what tests make, not all that they have imported, too."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Let one worker run all tests that share a fixture of their module, so that it is made once.

    What stands at the top of the tests runs first: it takes longest, and a long test that comes
    last leaves the other workers idle.
    """
    for item in items:
        definitions = itertools.chain.from_iterable(item._fixtureinfo.name2fixturedefs.values())
        if any(definition.scope == "module" for definition in definitions):
            item.add_marker(pytest.mark.xdist_group(item.module.__name__))
    items.sort(key=lambda item: len(item.path.parts))


def pytest_runtest_setup(item):
    """Skip what needs the extra of a suite that is not installed."""
    from memorax.environments import SUITES

    for marker in item.iter_markers("extra"):
        if not SUITES[marker.args[0]].installed:
            pytest.skip(f"needs the extra {SUITES[marker.args[0]].extra}")


@pytest.fixture
def as_a_user():
    """Turn off the type checks that only tests run with, so that users' own errors are met."""
    disabled = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", disabled)
