"""The command ``memorax``."""

import importlib
import sys
from collections.abc import Callable, Sequence

from memorax import __version__
from memorax.installed_package import conflict
from memorax.validation import unknown_name

_OVERVIEW = """usage: memorax COMMAND [OPTIONS]

Memory for reinforcement learning agents, in JAX.

commands:
  train          train a memory on a task, beside its memoryless twin
  evaluate       repeat the evaluation of a finished run
  play           watch an agent play, beside the activity of its memory
  export         write a trained agent's step as a program that runs without memorax
  compare        train several memories on several tasks, and put them into one table
  sweep          search the options that a memory learns best with
  report         turn a comparison or a sweep into a single page
  presets        list complete settings that are known to learn
  check-memory   check which laws of a memory a cell of your own keeps
  init           make a folder with a task, a cell and a script of your own
  list           list torsos, algorithms, heads, encoders, environments or presets
  environments   list suites, and the tasks that match a pattern
  doctor         describe this machine and what is installed, for reports of bugs

'memorax COMMAND --help' lists the options of a command, 'memorax --version' the version.
Every command takes '--import MODULE': a module of yours that registers memories or tasks."""


COMMANDS = {
    "train": ("train", "run"),
    "evaluate": ("evaluate", "run"),
    "play": ("play", "run"),
    "export": ("export", "run"),
    "compare": ("study", "run_compare"),
    "sweep": ("study", "run_sweep"),
    "report": ("study", "run_report"),
    "presets": ("presets", "run"),
    "check-memory": ("check_memory", "run"),
    "init": ("init", "run"),
    "list": ("listing", "run"),
    "environments": ("environments", "run"),
    "doctor": ("doctor", "run"),
}
"""The module and the function of each command; a module is imported when its command runs."""
STORING_IMPORTS = "train", "compare", "sweep"
"""Commands that store the modules of ``--import``, which every command takes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    It is 0 when all went well, 1 when something failed on the way, 2 for bad input, 130 after
    Ctrl-C, 143 after SIGTERM and 129 after SIGHUP.

    Args:
        arguments: The arguments after ``memorax``; None: those of the process.
    """
    if (problem := conflict()) is not None:
        print(f"memorax: {problem}", file=sys.stderr)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_OVERVIEW)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"memorax {__version__}")
        return 0
    name, *rest = arguments
    # Not at the top: they import JAX and more, which the overview does not need.
    from memorax.experiments.cli.errors import exit_code
    from memorax.experiments.cli.imports import search_current_folder
    from memorax.experiments.cli.reported_errors import hide_reported_errors

    hide_reported_errors()
    search_current_folder()
    return exit_code(lambda: _run(name, rest))


def _run(name: str, arguments: list[str]) -> int:
    from memorax.experiments.cli.imports import FLAG, import_modules, take_imports

    run = _command(name)
    modules, arguments = take_imports(arguments)
    import_modules(modules)
    if modules and name in STORING_IMPORTS:
        arguments += [FLAG, *modules]
    return run(arguments)


def _command(name: str) -> Callable[[list[str]], int]:
    if name not in COMMANDS:
        from memorax.experiments.cli.errors import BadInputError

        raise BadInputError(unknown_name("command", name, COMMANDS))
    module, function = COMMANDS[name]
    return getattr(importlib.import_module(f"memorax.experiments.cli.{module}"), function)


if __name__ == "__main__":
    sys.exit(main())
