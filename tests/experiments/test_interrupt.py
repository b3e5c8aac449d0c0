import os
import pty
import signal
import subprocess
import sys

import pytest


def interrupted(*numbers):
    """Send signals to a process that is busy; return its exit code and what it said."""
    script = f"""
import hashlib, os, threading, time
from memorax.experiments.run.console import make_console
from memorax.experiments.run.interrupt import Interrupt

def send():
    for number in {tuple(map(int, numbers))}:
        time.sleep(0.3)
        os.kill(os.getpid(), number)

with Interrupt(make_console()) as interrupt:
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_a_wish(number):
    code, told = interrupted(number)
    assert code == 0
    assert told == f"stopping after this chunk; Ctrl-C again stops immediately\nsignal {number}\n"


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((signal.SIGINT, signal.SIGINT), 130),
        ((signal.SIGTERM, signal.SIGTERM), 143),
        ((signal.SIGTERM, signal.SIGINT), 130),
        ((signal.SIGHUP, signal.SIGTERM), 143),
    ],
)
def test_the_second_signal_stops_at_once(numbers, expected):
    code, told = interrupted(*numbers)
    assert code == expected
    assert told.endswith("stopped; the last checkpoint is kept\n")


def test_the_shell_and_the_system_may_both_say_that_the_terminal_is_gone():
    code, told = interrupted(signal.SIGHUP, signal.SIGHUP, signal.SIGTERM)
    assert code == 143
    assert told.startswith("stopping after this chunk")


def test_a_run_that_ignores_hanging_up_goes_on():
    script = """
import os, signal, time
from memorax.experiments.run.console import make_console
from memorax.experiments.run.interrupt import Interrupt
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with Interrupt(make_console()) as interrupt:
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(0.3)
    print(interrupt.wanted)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout == b"False\n"


def test_a_terminal_that_goes_away_is_a_wish_to_stop_and_no_failure(tmp_path):
    reached = tmp_path / "reached"
    script = f"""
import sys, time
from pathlib import Path
from memorax.experiments.run.console import make_console
from memorax.experiments.run.interrupt import Interrupt
console = make_console()
with Interrupt(console) as interrupt:
    console.print("begun")
    while not interrupt.wanted:
        time.sleep(0.01)
    for _ in range(3):
        console.print("what it reached is kept")
        time.sleep(0.1)
    sys.stdout.flush()
    Path({str(reached)!r}).write_text(f"signal {{interrupt.signal}}")
"""
    process, terminal = pty.fork()
    if not process:
        # Under nohup the tests' own process ignores it.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.execv(sys.executable, [sys.executable, "-c", script])
    assert os.read(terminal, 5) == b"begun"
    os.close(terminal)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert reached.read_text() == f"signal {signal.SIGHUP}"
