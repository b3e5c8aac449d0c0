"""Supervises processes that train together, to report why JAX ended one.

If a process dies, JAX kills the others before they can print an error. So a supervisor starts each
of them, waits for its end and prints the reason.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from memorax.experiments.run.interrupt import signals_to_handle

PROCESS_LOST = 70
"""The exit code of a process that could not reach another one."""
_SUPERVISOR = "MEMORAX_SUPERVISOR"


def supervise(arguments: Sequence[str]) -> int:
    """Run the command line in a process of its own and return its exit code.

    Args:
        arguments: The arguments after ``memorax``.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "memorax.experiments.cli.command_line", *arguments],
        env=os.environ | {_SUPERVISOR: str(os.getpid())},
        # Ctrl-C reaches it from here alone, not from the terminal a second time.
        start_new_session=True,
    )
    for number in signals_to_handle():
        signal.signal(number, lambda number, frame: process.send_signal(number))
    code = process.wait()
    if code == PROCESS_LOST or code < 0:
        reason = "another process of this run has died or cannot be reached"
        if code not in (PROCESS_LOST, -signal.SIGABRT):
            reason = f"the training process was ended by {signal.Signals(-code).name}"
        kept = ", ".join(_checkpoints(arguments)) or "no checkpoint yet"
        print(f"memorax: error: {reason}; last good state: {kept}", file=sys.stderr)
        return 1
    return code


def end_with_supervisor() -> None:
    """End this process when its supervisor, if it has one, has ended."""
    supervisor = os.environ.pop(_SUPERVISOR, None)

    def watch():
        while str(os.getppid()) == supervisor:
            time.sleep(1)
        os._exit(PROCESS_LOST)

    if supervisor is not None:
        threading.Thread(target=watch, daemon=True).start()


def _checkpoints(arguments: Sequence[str]) -> Iterator[str]:
    """Name the last checkpoint of each model of the run."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--run-folder", type=Path)
    folder = parser.parse_known_args(arguments)[0].run_folder
    if folder is None:
        return
    for model in sorted((folder / "checkpoints").glob("*")):
        # Incomplete checkpoints have other names.
        steps = [int(path.name) for path in model.glob("*") if path.name.isdecimal()]
        if steps:
            yield f"checkpoint of step {max(steps):,} of {model.name} in {folder}"
