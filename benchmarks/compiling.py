"""How long a run by name compiles before it learns: torsos at their default sizes, with PPO.

    python benchmarks/compiling.py [--torsos gtrxl lru] [--num-layers 1 2 4]

Each torso starts twice, each time in a new process: first with an empty cache of compiled programs,
then with the cache that the first start has filled. The seconds are those of the processor in user
mode, of all threads, from the end of the imports to the end of the first update, and then stage by
stage of both starts; other work on the machine hardly counts. ``wall`` is what passed in the first.
"""

import datetime
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from timing import machine

from memorax.experiments.presets.torsos import TORSOS
from memorax.validation import unknown_name

STAGES = ("agent", "first state", "trace", "compile", "first update")


@dataclass
class Options:
    """Measure the time to the first update."""

    torsos: tuple[str, ...] = tuple(TORSOS)
    """Which torsos by name to measure."""
    num_layers: tuple[int | None, ...] = (None,)
    """Layers of each torso that has them; None: those it has by default."""
    environment: str = "memory::RepeatFirstEasy"
    """The environment."""
    output: Path | None = None
    """A folder for compiling.md; None: only print."""


@dataclass
class Start:
    """The first update of a run in a new process.

    Attributes:
        user: Seconds of the processor in user mode, by stage.
        wall: Seconds that passed, all stages together.
    """

    user: dict[str, float] = field(default_factory=dict)
    wall: float = 0.0

    @property
    def total(self) -> float:
        """Seconds of the processor, all stages together."""
        return sum(self.user.values())


def first_update(torso: str, num_layers: int | None, environment: str, cache: str) -> Start:
    """Train a run by name for one update, compiled as ``memorax train`` does."""
    import jax  # noqa: PLC0415
    import jax.monitoring  # noqa: PLC0415

    from memorax.experiments.run.agents import make_agent  # noqa: PLC0415
    from memorax.experiments.run.config import TrainConfig  # noqa: PLC0415
    from memorax.experiments.run.devices import one_device  # noqa: PLC0415
    from memorax.experiments.run.program import Program  # noqa: PLC0415

    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.block_until_ready(jax.random.key(0))
    config = TrainConfig(environment, torso=torso, num_layers=num_layers)
    start, began = Start(), time.perf_counter()
    clock = _user_seconds()

    def stage_ends(name: str) -> None:
        nonlocal clock
        start.user[name] = _user_seconds() - clock
        clock = _user_seconds()

    agent = make_agent(config, torso)
    program = Program(one_device(), config, torso, agent)
    stage_ends("agent")
    state = jax.block_until_ready(program.init())
    stage_ends("first state")
    lowered_at = clock

    def note(event: str, duration_secs: float, **details: object) -> None:
        nonlocal lowered_at
        if event == "/jax/core/compile/jaxpr_to_mlir_module_duration":
            lowered_at = _user_seconds()

    jax.monitoring.register_event_duration_secs_listener(note)
    program.compiled(agent.steps_per_update)
    start.user["trace"] = lowered_at - clock
    clock = lowered_at
    stage_ends("compile")
    program.train(0, agent.steps_per_update, state)
    stage_ends("first update")
    start.wall = time.perf_counter() - began
    return start


def _user_seconds() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def starts(torso: str, num_layers: int | None, environment: str) -> tuple[Start, Start]:
    """Return a start with an empty cache of compiled programs, and one with the cache it left."""
    new_process = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as cache,
        ProcessPoolExecutor(1, new_process, max_tasks_per_child=1) as pool,
    ):
        first = pool.submit(first_update, torso, num_layers, environment, cache).result()
        second = pool.submit(first_update, torso, num_layers, environment, cache).result()
    return first, second


def row(torso: str, num_layers: int | None, first: Start, second: Start) -> str:
    """Return the row of a torso."""
    layers = TORSOS[torso].num_layers if num_layers is None else num_layers
    stages = (f"{first.user[stage]:.1f}, {second.user[stage]:.1f}" for stage in STAGES)
    cells = (
        *(torso, layers or "-", f"{first.total:.1f}", f"{second.total:.1f}"),
        *(f"{second.total / first.total:.2f}", f"{first.wall:.1f}", *stages),
    )
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    options = tyro.cli(Options)
    for torso in options.torsos:
        if torso not in TORSOS:
            raise SystemExit(unknown_name("torso", torso, TORSOS))
    header = ("torso", "layers", "first start", "second start", "second / first", "wall", *STAGES)
    rows = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    print("\n".join(rows), flush=True)
    for torso in options.torsos:
        for num_layers in options.num_layers:
            if num_layers is None or TORSOS[torso].num_layers is not None:
                measured = starts(torso, num_layers, options.environment)
                rows.append(row(torso, num_layers, *measured))
                print(rows[-1], flush=True)
                if options.output is not None:
                    options.output.mkdir(parents=True, exist_ok=True)
                    text = [f"{datetime.date.today()}, {machine()}.", "", *rows, ""]
                    (options.output / "compiling.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
