import signal
import subprocess
import sys

import pytest


def interrupted(*numbers):
    """Send signals to a process that is busy; return its exit code and what it said."""
    script = f"""
import hashlib, os, threading, time
from rich.console import Console
from memorax.experiments.interrupt import Interrupt

def send():
    for number in {tuple(map(int, numbers))}:
        time.sleep(0.3)
        os.kill(os.getpid(), number)

with Interrupt(Console()) as interrupt:
    threading.Thread(target=send).start()
    # Like a compiled program, it does not return to Python before it is through.
    hashlib.pbkdf2_hmac("sha256", b"", b"", {10**9 if len(numbers) > 1 else 10**6})
    while not interrupt.wanted:
        time.sleep(0.01)
print("signal", interrupt.signal)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert not done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_wish(number):
    code, told = interrupted(number)
    assert code == 0
    assert told == f"stopping after this piece; Ctrl-C again stops at once\nsignal {number}\n"


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((signal.SIGINT, signal.SIGINT), 130),
        ((signal.SIGTERM, signal.SIGTERM), 143),
        ((signal.SIGTERM, signal.SIGINT), 130),
    ],
)
def test_the_second_signal_stops_at_once(numbers, expected):
    code, told = interrupted(*numbers)
    assert code == expected
    assert told.endswith("stopped at once; the last checkpoint is kept\n")
