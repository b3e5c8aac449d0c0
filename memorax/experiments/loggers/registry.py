"""Loggers by name; none is imported before a run asks for it."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from memorax.installed_package import install_command, is_installed
from memorax.validation import unknown_name


@dataclass(frozen=True)
class LoggerKind:
    """A logger's class and the packages that it needs.

    Attributes:
        module: Its module.
        name: Its class there.
        packages: The packages that it needs, besides those that memorax itself needs.
        extra: The extra that installs them.
    """

    module: str
    name: str
    packages: tuple[str, ...] = ()
    extra: str = ""

    def load(self) -> Any:
        """Import the logger's module and return its class."""
        return getattr(
            importlib.import_module(f"memorax.experiments.loggers.{self.module}"), self.name
        )


LOGGERS = {
    "csv": LoggerKind("csv_logger", "CsvLogger"),
    "dashboard": LoggerKind("dashboard", "Dashboard"),
    "jsonl": LoggerKind("json_lines_logger", "JsonLinesLogger"),
    "mlflow": LoggerKind(
        "mlflow_logger", "MlflowLogger", ("mlflow", "sqlalchemy", "alembic"), "mlflow"
    ),
    "progress": LoggerKind("progress_bar", "ProgressBar"),
    "tensorboard": LoggerKind("tensorboard_logger", "TensorBoardLogger"),
    "wandb": LoggerKind("wandb_logger", "WandbLogger", ("wandb",), "wandb"),
}
"""Every logger by its name."""

TERMINAL = "dashboard", "progress"
"""Loggers that draw in the terminal, where there is room for one."""


def check_names(loggers: Sequence[str]) -> None:
    """Check that loggers exist and go together.

    Raises:
        ValueError: If a name is unknown or given twice, or several draw in the terminal.
    """
    for name in loggers:
        if name not in LOGGERS:
            raise ValueError(unknown_name("logger", name, LOGGERS))
        if loggers.count(name) > 1:
            raise ValueError(f"loggers must differ from each other, got {name!r} twice")
    if set(TERMINAL) <= set(loggers):
        raise ValueError(
            f"loggers may have one that draws in the terminal, got {' and '.join(TERMINAL)}"
        )


def check_installed(loggers: Sequence[str]) -> None:
    """Check that what loggers need is installed; nothing is imported.

    Raises:
        ModuleNotFoundError: If it is not; the extra to install is named.
    """
    for name in loggers:
        for package in LOGGERS[name].packages:
            if not is_installed(package):
                raise ModuleNotFoundError(
                    f"logger {name!r} needs {package}: {install_command(LOGGERS[name].extra)}",
                    name=package,
                )
