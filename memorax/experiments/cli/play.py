"""The command ``memorax play``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from memorax.experiments.cli.errors import input_checked
from memorax.experiments.cli.parsing import parse
from memorax.experiments.run.console import make_console, waiting_line
from memorax.validation import check_integer, check_positive


@dataclass(frozen=True)
class Play:
    """Watch an agent play: its observations and actions, beside its memory's activity over time."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder."""
    model: str | None = None
    """The torso's name; None: the run's own, not its memoryless twin."""
    seed: int = 0
    """Which of the run's seeds."""
    first_episode: int = 0
    """Episodes are numbered; every agent that plays one begins it alike."""
    episodes: int = 1
    """Number of episodes."""
    max_steps: int = 500
    """Cut episodes off after so many steps."""
    output: Path | None = None
    """Also write an animated picture, a new file that ends in .gif."""
    influence: Path | None = None
    """Also draw what the memory keeps of the first episode, to a new file that ends in .png: how
    strongly the input of each of its first 128 steps moves the outputs of later steps."""
    frames_per_second: int = 5
    """Steps shown of a second."""
    terminal: bool = True
    """Show it here."""


def run(arguments: list[str]) -> int:
    """Run ``memorax play`` and return its exit code."""
    options = parse(Play, "memorax play", arguments)
    from memorax.experiments.run.folder import RunFolder

    with input_checked():
        config = RunFolder.open(options.run).config()
    import jax

    from memorax.experiments.files.output import check_output
    from memorax.experiments.play import influence
    from memorax.experiments.play.episode import Player
    from memorax.experiments.play.gif import MOST_FRAMES_PER_SECOND, write_gif
    from memorax.experiments.play.terminal import show
    from memorax.experiments.run.policy import load_step

    console = make_console()
    with input_checked():
        check_integer("first_episode", options.first_episode, 0, 2**31 - 1)
        check_positive("episodes", options.episodes)
        check_positive("max_steps", options.max_steps)
        check_integer("frames_per_second", options.frames_per_second, 1, MOST_FRAMES_PER_SECOND)
        if options.output is not None:
            check_output(options.output, ".gif")
        if options.influence is not None:
            check_output(options.influence, ".png", "influence")
        if options.output is None and options.influence is None and not options.terminal:
            raise ValueError(
                "--no-terminal leaves nothing to be seen but by --output or --influence"
            )
        step = load_step(options.run, options.model, options.seed)
        player = Player(step, config.task, draw=options.output is not None)
        played = []
        # Episodes are shown when all have been played.
        with console.status("playing") as status:
            for number in range(options.first_episode, options.first_episode + options.episodes):

                def show_step(step, number=number):
                    status.update(
                        f"playing episode {number}: step {step:,} of at most {options.max_steps:,}"
                    )

                key = jax.random.fold_in(jax.random.key(0), number)
                played.append(player.play(key, options.max_steps, show_step))
    model = options.model or config.torso
    if options.terminal:
        show(*(played, model, console, options.frames_per_second, options.first_episode))
    if options.output is not None:
        if played[0].moments[0].frame is None:
            console.print(f"{played[0].task} does not draw: it is shown as text")
        write_gif(played, model, options.output, options.frames_per_second)
        console.print(f"picture: {options.output}", soft_wrap=True)
    if options.influence is not None:
        with waiting_line(console, "measuring the influence of each step"):
            measured = influence.measure_influence(player, played[0])
        influence.plot_influence(options.influence, measured, f"{model} on {config.task}")
        console.print(f"influence of each step: {options.influence}", soft_wrap=True)
    return 0
