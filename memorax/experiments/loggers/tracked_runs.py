"""The ids of runs at tracking services, which resumed runs continue."""

import json
from typing import Any

from memorax.experiments.loggers.logger import LoggedModel

NAME = "tracking.json"


def read_tracked(logged: LoggedModel, service: str) -> dict[str, Any]:
    """Return the stored id of a model's run at a service; empty the first time."""
    return _read(logged).get(service, {}).get(logged.model, {})


def write_tracked(logged: LoggedModel, service: str, kept: dict[str, Any]) -> None:
    """Keep something about a model's run at a service, in the run's folder."""
    everything = _read(logged)
    everything.setdefault(service, {})[logged.model] = kept
    logged.folder.write(NAME, json.dumps(everything, indent=2) + "\n")


def flat_config(logged: LoggedModel) -> dict[str, Any]:
    """Return the run's configuration with dotted names, such as ``algorithm.gamma``."""
    config = json.loads((logged.folder.path / "config.json").read_text(encoding="utf-8"))
    algorithm = config.pop("algorithm")
    return {"model": logged.model, **config} | {
        f"algorithm.{name}": value for name, value in algorithm.items()
    }


def _read(logged: LoggedModel) -> dict[str, Any]:
    path = logged.folder.path / NAME
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
