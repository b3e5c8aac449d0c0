"""How long the command line takes to answer: seconds of processor time, each in a new process.

    python benchmarks/start.py [--repeats 5]

The commands take turns; the least time of each counts, since other work on the machine only adds.
"""

import argparse
import os
import subprocess
import sys

COMMANDS = (
    "--help",
    "--version",
    "list torsos",
    "environments memory::*",
    "train --help",
    "compare --help",
    "sweep --help",
    "evaluate --help",
    "trian",
    "train --num-env 3",
    "train --torso gruu",
    "train --algorithm dqm",
    "train --environment memory::RepeatFirst",
    "train --features 0",
    "evaluate nowhere",
)


def seconds(command: str) -> float:
    """Return the user and system time of one command, in seconds."""
    process = subprocess.Popen(
        [sys.executable, "-m", "memorax", *command.split()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, _, usage = os.wait4(process.pid, 0)
    return usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="processes for each command")
    repeats = parser.parse_args().repeats
    measured = {command: [] for command in COMMANDS}
    for _ in range(repeats):
        for command, times in measured.items():
            times.append(seconds(command))
    print(f"{'memorax':<42}  seconds")
    for command, times in measured.items():
        print(f"{command:<42}  {min(times):7.2f}")


if __name__ == "__main__":
    main()
