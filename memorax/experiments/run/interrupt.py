"""Stopping a run from outside."""

import os
import signal
import socket
import threading

from rich.console import Console

from memorax.experiments.run.failures import TerminatedError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def signals_to_handle() -> list[int]:
    """Return the signals that stop a run; without SIGHUP if it is ignored, as under nohup."""
    return [
        number
        for number in SIGNALS
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    ]


class Interrupt:
    """Turns the first Ctrl-C, SIGTERM or SIGHUP into a request to stop; the second exits.

    SIGHUP, sent when the terminal goes away, is never the second: the shell and the system both
    send it.

    A thread receives signals immediately, while Python's own handlers wait until a compiled program
    returns, which may be long.

    Attributes:
        signal: The signal that came, None as long as none has.

    Args:
        console: Where to acknowledge the signal.
    """

    def __init__(self, console: Console):
        self.signal: int | None = None
        self._console = console

    @property
    def wanted(self) -> bool:
        """Whether to stop."""
        return self.signal is not None

    def raise_if_terminated(self) -> None:
        """Raise what ends the command, unless it was Ctrl-C that stopped it.

        Raises:
            TerminatedError: If it was SIGTERM or SIGHUP.
        """
        if self.signal not in (None, signal.SIGINT):
            raise TerminatedError(self.signal)

    def __enter__(self) -> "Interrupt":
        """Begin to listen."""
        self._previous = {
            number: signal.signal(number, self._handle) for number in signals_to_handle()
        }
        self._heard, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._previous_wake = signal.set_wakeup_fd(self._wake.fileno())
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave signals as they were."""
        signal.set_wakeup_fd(self._previous_wake)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._wake.close()
        self._listener.join()
        self._heard.close()

    def _handle(self, number: int, frame: object) -> None:
        self.signal = self.signal or number

    def _listen(self) -> None:
        came = False
        while byte := self._heard.recv(1):
            if byte[0] not in SIGNALS:
                continue
            if came and byte[0] == signal.SIGHUP:
                continue
            if came:
                self._console.show_cursor()
                self._console.print("stopped; the last checkpoint is kept")
                os._exit(128 + byte[0])
            came = True
            self._handle(byte[0], None)
            self._console.print("stopping after this chunk; Ctrl-C again stops immediately")
