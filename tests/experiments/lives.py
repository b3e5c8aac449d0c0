"""Runs memorax in real processes that end as they are told to, each a fork of this one.

What takes a process longest is to import JAX and its friends; here that happens once. Every line of
standard input is a life: a JSON object with ``arguments`` for the command line, and

- ``kill``: ``[events, seconds]``: SIGKILL so long after so many changes to files of the run folder,
- ``read_only``: make the run folder read-only after so many of them,
- ``most_bytes``: no file grows larger, as if the disk were full.

Its exit code, negative if a signal has ended it, is answered on standard output.
"""

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.xla_flags import FAST_COMPILATION

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "open"}
DROP_FROM_BOUNDING_SET, OVERRIDE_PERMISSIONS = 24, 1


class Lives:
    """The process that forks them.

    Args:
        folder: Where what they print goes, and compiled programs are kept.
        num_devices: How many devices each sees.
    """

    def __init__(self, folder: Path, num_devices: int = 1):
        self._told = folder / "told.txt"
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ
            | {
                "XLA_FLAGS": f"{FAST_COMPILATION} "
                f"--xla_force_host_platform_device_count={num_devices}",
                "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
                "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
                "COLUMNS": "300",
            },
        )

    def live(self, *arguments, **fate):
        """Run the command line until it ends; return its exit code and what it told."""
        life = {"arguments": list(map(str, arguments)), "told": str(self._told)} | fate
        print(json.dumps(life), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline()), self._told.read_text()

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def _after_changes(folder, count, act):
    changes = 0

    def hook(event, arguments):
        nonlocal changes
        if event not in CHANGES or not str(arguments[0]).startswith(folder):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        changes += 1
        if changes == count:
            act()

    sys.addaudithook(hook)


def _kill_after(seconds):
    def kill():
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Timer(seconds, kill).start() if seconds else kill()


def make_read_only(folder):
    for path in (*Path(folder).rglob("*"), Path(folder)):
        path.chmod(0o555 if path.is_dir() else 0o444)


def _live(main, life, told):
    os.dup2(told, 1)
    os.dup2(told, 2)
    folder = life["arguments"][life["arguments"].index("--run-folder") + 1]
    if "kill" in life:
        events, seconds = life["kill"]
        _after_changes(folder, events, lambda: _kill_after(seconds))
    if "read_only" in life:
        _after_changes(folder, life["read_only"], lambda: make_read_only(folder))
    if "most_bytes" in life:
        import jax

        # Else halves of compiled programs would be kept.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)
        resource.setrlimit(resource.RLIMIT_FSIZE, (life["most_bytes"], life["most_bytes"]))
    return main(life["arguments"])


def _serve():
    # Here, so that the test itself needs no second import of all of this.
    import jax._src.xla_bridge as backends

    from memorax.experiments.cli.command_line import main

    for line in sys.stdin:
        assert not backends.backends_are_initialized(), "its threads would be missing in a fork"
        life = json.loads(line)
        # A file would be as full as the disk, and XLA may have pages to say about a processor.
        told, tell = os.pipe()
        process = os.fork()
        if not process:
            sys.exit(_live(main, life, tell))
        os.close(tell)
        with open(told, "rb") as telling:
            Path(life["told"]).write_bytes(telling.read())
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _obey_permissions():
    """Begin again as one who is refused what permissions do not allow, although root is not."""
    ctypes.CDLL(None).prctl(DROP_FROM_BOUNDING_SET, OVERRIDE_PERMISSIONS, 0, 0, 0)
    os.execv(sys.executable, [sys.executable, __file__, "obedient"])


if __name__ == "__main__":
    if os.geteuid() == 0 and sys.argv[1:] != ["obedient"]:
        _obey_permissions()
    _serve()
