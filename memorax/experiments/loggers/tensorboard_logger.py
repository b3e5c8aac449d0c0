"""Metrics for TensorBoard."""

import itertools
import time
from collections.abc import Sequence

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore
from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore

from memorax.experiments.loggers.logger import LoggedModel, Metrics, means_over_seeds


class TensorBoardLogger:
    """``tensorboard/MODEL/``: events with the means over seeds.

    Events are written here, not in the thread of tensorboardX's own writer, whose queue fills for
    ever once it has failed.

    Args:
        logged: The logged model.
    """

    def __init__(self, logged: LoggedModel):
        self._path = logged.folder.path / "tensorboard" / logged.model
        self._path.mkdir(parents=True, exist_ok=True)
        self._numbers = itertools.count()
        self._events: EventsWriter | None = self._open()
        if logged.step:
            # Discard what was logged after the step that a resumed run starts from.
            again = SessionLog(status=SessionLog.START)
            self._events.write_event(Event(step=logged.step + 1, session_log=again))

    def log(self, steps: Sequence[int], metrics: Metrics, seconds: float) -> None:
        """Add the means of some updates."""
        self._events = self._events or self._open()
        try:
            for step, means in means_over_seeds(steps, metrics):
                values = [
                    Summary.Value(tag=name, simple_value=mean) for name, mean in means.items()
                ]
                event = Event(step=step, wall_time=time.time(), summary=Summary(value=values))
                self._events.write_event(event)
        except OSError:
            # Half an event may stand at the end of the file: what follows goes to another.
            self._events = None
            raise

    def flush(self) -> None:
        """Flush the events to disk."""
        if self._events:
            self._events.flush()

    def close(self) -> None:
        """Close the files."""
        if self._events:
            self._events.close()

    def _open(self) -> EventsWriter:
        return EventsWriter(str(self._path / "events"), filename_suffix=f".{next(self._numbers)}")
