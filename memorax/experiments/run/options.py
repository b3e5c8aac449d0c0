"""Options that several commands share, and types that tyro does not parse."""

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.constructors import PrimitiveConstructorSpec

from memorax.validation import check_integer, check_positive

Choice = Literal["last", "best"]
"""Which checkpoint of a run."""
SLURM = "slurm"

_WORDS = {"true": True, "false": False, "none": None}


def _parse(words: list[str]) -> bool | None:
    if not words:
        return True
    if words[0].lower() not in _WORDS:
        raise ValueError(f"must be True or False, got {words[0]!r}")
    return _WORDS[words[0].lower()]


OptionalFlag = Annotated[
    bool | None,
    PrimitiveConstructorSpec(
        nargs=(0, 1),
        metavar="[True|False]",
        instance_from_str=_parse,
        is_instance=lambda value: value is None or isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    ),
]
"""A flag with three values: ``--flag`` is True, ``--flag False`` is False, without it None."""


@dataclass(frozen=True)
class Devices:
    """The devices to train on. A run can be resumed on other devices.

    Raises:
        ValueError: If a value is out of its range.
    """

    devices: int | None = None
    """Devices to spread environments and batches over; None: every visible one, or as many of them
    as divide seeds, environments and batches; one for environments that run in Python processes."""
    seed_devices: int = 1
    """Groups of devices; each group trains a share of the seeds."""

    def __post_init__(self):
        """Check the fields."""
        if self.devices is not None:
            check_positive("devices", self.devices)
        check_positive("seed_devices", self.seed_devices)


@dataclass(frozen=True)
class Processes:
    """Which processes train together; by default this one alone.

    Raises:
        ValueError: If some of the options are missing, or do not fit each other.
    """

    coordinator: str | None = None
    """HOST:PORT at which process 0 can be reached, for a run of several processes; slurm reads
    all three options from the variables that srun sets."""
    num_processes: int | None = None
    """The number of processes that train together."""
    process_id: int | None = None
    """The index of this process, from 0."""

    def __post_init__(self):
        """Check the fields."""
        others = {"num_processes": self.num_processes, "process_id": self.process_id}
        if self.coordinator in (None, SLURM):
            for name, value in others.items():
                if value is not None:
                    raise ValueError(
                        f"{name} needs a coordinator HOST:PORT, got {name}={value}, "
                        f"coordinator={self.coordinator}"
                    )
            return
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError(f"coordinator must be HOST:PORT or slurm, got {self.coordinator!r}")
        if self.num_processes is None or self.process_id is None:
            raise ValueError(
                "coordinator needs num_processes and process_id, got "
                + ", ".join(f"{name}={value}" for name, value in others.items())
            )
        check_positive("num_processes", self.num_processes)
        check_integer("process_id", self.process_id, 0, self.num_processes - 1)
