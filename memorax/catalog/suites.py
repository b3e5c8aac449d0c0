"""Suites of environments by name."""

from dataclasses import dataclass

from memorax.installed_package import install_command, is_installed
from memorax.validation import unknown_name

REGISTERING = (
    "register it in a module, gymnasium.register(id='Name-v0', entry_point='module:Class'), and "
    "name it 'gymnasium::module:Name-v0'"
)
"""Instructions for registering an environment."""


@dataclass(frozen=True)
class Suite:
    """A family of environments: a module with ``make`` and ``names``.

    Attributes:
        module: The module, imported when the suite is first asked for.
        packages: The packages that it needs.
        extra: The extra that installs them.
        summary: Its environments, in a few words.
    """

    module: str
    packages: tuple[str, ...] = ()
    extra: str = ""
    summary: str = ""

    @property
    def missing(self) -> str | None:
        """The first package that the suite needs and is not installed; nothing is imported."""
        packages = (package for package in self.packages if not is_installed(package))
        return next(packages, None)

    @property
    def installed(self) -> bool:
        """Whether everything that the suite needs is installed; nothing is imported."""
        return self.missing is None


SUITES = {
    "ale": Suite(
        *("memorax.environments.suites.ale_adapter", ("ale_py", "gymnasium"), "ale"),
        "Atari 2600 games",
    ),
    "brax": Suite(
        *("memorax.environments.suites.brax_adapter", ("brax",), "brax"),
        "rigid-body control, in JAX",
    ),
    "craftax": Suite(
        *("memorax.environments.suites.craftax_adapter", ("craftax",), "craftax"),
        "open-ended survival, in JAX",
    ),
    "gymnasium": Suite(
        *("memorax.environments.suites.gymnasium_adapter", ("gymnasium",), "gymnasium"),
        "any Gymnasium environment",
    ),
    "gymnax": Suite(
        *("memorax.environments.suites.gymnax_adapter", ("gymnax",), "envs"),
        "bsuite and MinAtar, in JAX",
    ),
    "jumanji": Suite(
        *("memorax.environments.suites.jumanji_adapter", ("jumanji",), "jumanji"),
        "puzzles and games, in JAX",
    ),
    "memory": Suite("memorax.environments.memory", summary="our own memory tasks, in JAX"),
    "minigrid": Suite(
        *("memorax.environments.suites.minigrid_adapter", ("minigrid", "gymnasium"), "minigrid"),
        "partially observed grids",
    ),
    "navix": Suite(
        *("memorax.environments.suites.navix_adapter", ("navix",), "navix"),
        "MiniGrid's grids, in JAX",
    ),
    "popgym": Suite(
        *("memorax.environments.suites.popgym_adapter", ("popgym", "gymnasium"), "popgym"),
        "partially observed tasks",
    ),
    "xminigrid": Suite(
        *("memorax.environments.suites.xminigrid_adapter", ("xminigrid",), "xminigrid"),
        "meta-learning grids, in JAX",
    ),
}
"""Every suite by its name."""


def find_suite(name: str) -> Suite:
    """Return a suite by its name.

    Raises:
        ValueError: If there is none of that name; the closest are named.
    """
    if name not in SUITES:
        raise ValueError(unknown_name("suite", name, SUITES))
    return SUITES[name]


def missing_package(suite: str, package: str) -> ModuleNotFoundError:
    """Return the error for a package that a suite needs, which names the extra to install."""
    return ModuleNotFoundError(
        f"environments '{suite}::...' need {package}: {install_command(SUITES[suite].extra)}",
        name=package,
    )
