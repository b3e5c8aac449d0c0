"""One page about the machine and what is installed, for users and for reports of bugs.

A part that fails is reported, and the next one follows: nothing but Python itself is imported until
a part needs it.
"""

import contextlib
import importlib.metadata
import io
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")
SETTINGS = ("JAX_", "XLA_", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MEMORAX_", "XDG_CACHE_HOME")
"""Prefixes of the environment variables that change how memorax runs."""
UPDATES = 10


@dataclass(frozen=True)
class Doctor:
    """Describe this machine, what is installed, and how fast the demo trains, as plain text.

    It takes a minute: every suite is imported, and ten updates of the demo are compiled and run.
    The exit code is 0 if training works here, else 1.
    """


def run(arguments: list[str]) -> int:
    """Run ``memorax doctor`` and return its exit code."""
    from memorax.experiments.cli.parsing import parse

    parse(Doctor, "memorax doctor", arguments)
    return doctor()


def doctor() -> int:
    """Print the page, a part at a time, and return 0 if training works here, else 1."""
    works = True
    for title, part in PARTS.items():
        print(f"{title}:", flush=True)
        try:
            for line in part():
                print(f"  {without_user(line)}", flush=True)
        # Any failure here is the report: it fails for the user, too.
        except Exception as error:
            works = False
            print(f"  FAILED: {without_user(as_one_line(error))}", flush=True)
    return 0 if works else 1


def as_one_line(error: BaseException) -> str:
    """Return an error as one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def installation() -> Iterator[str]:
    """Describe memorax, Python and the operating system."""
    from memorax import __version__
    from memorax.installed_package import DISTRIBUTION, OTHER, conflict

    yield f"memorax {__version__} in {Path(__file__).parents[2]}"
    for name in (DISTRIBUTION, OTHER):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found = importlib.metadata.distribution(name)
            where = found.locate_file("")
            yield f"distribution {name} {found.version} in {where}: {found.metadata['Summary']}"
    if (problem := conflict()) is not None:
        yield f"FAILED: {problem}"
    yield f"Python {platform.python_version()}, {Path(sys.executable)}"
    yield f"{platform.platform()}, {platform.machine()}"


def packages() -> Iterator[str]:
    """List the versions of the packages that memorax needs."""
    for name in PACKAGES:
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            yield f"{name} NOT INSTALLED"


def devices() -> Iterator[str]:
    """List processors, memory, and the devices that JAX sees."""
    from memorax.environments.processes.pool import usable_processors

    yield f"{usable_processors()} of {os.cpu_count()} processors are usable"
    yield from _memory()
    import jax

    for device in jax.devices():
        limit = (device.memory_stats() or {}).get("bytes_limit")
        memory = f", {gigabytes(limit)}" if limit else ""
        yield f"JAX device {device.id}: {device.platform}, {device.device_kind}{memory}"


def _memory() -> Iterator[str]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    available = ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                available = f", {gigabytes(1024 * int(line.split()[1]))} available"
    yield f"{gigabytes(total)} of memory{available}"
    with contextlib.suppress(OSError):
        # A container's.
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8").strip()
        if limit.isdecimal():
            yield f"{gigabytes(int(limit))} of it may be used"


def settings() -> Iterator[str]:
    """List the environment variables that change what memorax does."""
    found = [name for name in sorted(os.environ) if name.startswith(SETTINGS)]
    yield from (f"{name}={os.environ[name]}" for name in found)
    if not found:
        yield "none"


def suites() -> Iterator[str]:
    """Import every suite of environments that is installed."""
    from memorax import environments
    from memorax.installed_package import install_command

    for name, suite in sorted(environments.SUITES.items()):
        if not suite.installed:
            yield f"{name}: not installed: {install_command(suite.extra)}"
            continue
        began = time.perf_counter()
        try:
            # Some packages print warnings about missing packages when they are imported.
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                number = len(environments.names(name))
        except (ValueError, ModuleNotFoundError) as error:
            yield f"{name}: FAILED: {' '.join(str(error).split())}"
            continue
        seconds = time.perf_counter() - began
        yield f"{name}: {number:,} environments, imported in {seconds:.1f} s"


def cache() -> Iterator[str]:
    """Measure the folder of compiled programs."""
    import jax

    from memorax.cache_folder import user_cache_folder

    ours, chosen = user_cache_folder(), jax.config.values["jax_compilation_cache_dir"]
    if ours is None and chosen is None:
        yield "no folder: there is no home folder; XDG_CACHE_HOME can name another place"
    for folder in dict.fromkeys(Path(folder) for folder in (ours, chosen) if folder):
        files = [path for path in folder.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        yield f"{folder}: {len(files):,} files, {gigabytes(size)}"


def training() -> Iterator[str]:
    """Compile and run some updates of the demo."""
    from memorax.experiments.run.config import TrainConfig

    yield from time_training(TrainConfig())


def time_training(config) -> Iterator[str]:
    """Compile and run ten updates of a run's memory network, without the cache.

    Args:
        config: The run's configuration.
    """
    import jax
    import numpy as np

    from memorax.experiments.run.agents import make_agent
    from memorax.experiments.run.devices import one_device
    from memorax.experiments.run.program import Program

    agent = make_agent(config, config.torso)
    program = Program(one_device(), config, config.torso, agent)
    num_steps = UPDATES * agent.steps_per_update
    with _without_compilation_cache():
        began = time.perf_counter()
        program.compiled(num_steps)
        state = jax.block_until_ready(program.init())
        yield f"compiled in {time.perf_counter() - began:.1f} s, without the cache"
    began = time.perf_counter()
    _, metrics = program.train(0, num_steps, state)
    seconds = time.perf_counter() - began
    losses = {name: np.asarray(values) for name, values in metrics.items() if "loss" in name}
    if not all(np.isfinite(values).all() for values in losses.values()):
        raise ArithmeticError(f"a loss is not finite: {losses}")
    speed = config.num_seeds * num_steps / seconds
    yield (
        f"{UPDATES} updates of {config.num_seeds} agents in {seconds:.2f} s, "
        f"{speed:,.0f} environment steps/s"
    )


@contextlib.contextmanager
def _without_compilation_cache() -> Iterator[None]:
    import jax

    enabled = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", enabled)


def gigabytes(number: int) -> str:
    """Return a number of bytes for people."""
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"


def without_user(line: str) -> str:
    """Return a line without the user's home folder, so that it can be published."""
    with contextlib.suppress(RuntimeError):
        return line.replace(str(Path.home()), "~")
    return line


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "installation": installation,
    "packages": packages,
    "machine": devices,
    "environment variables": settings,
    "suites of environments": suites,
    "compilation cache": cache,
    "training the demo": training,
}
"""The parts of the page by their titles."""
