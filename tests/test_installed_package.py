import re
import tomllib
from pathlib import Path

import pytest

from memorax import installed_package
from memorax.experiments.cli.command_line import main

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = PROJECT["description"]


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Return a function that makes a distribution look installed, before all others."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name, version, summary):
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        lines = "Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"
        (folder / "METADATA").write_text("\n".join([*lines, f"Summary: {summary}", ""]))

    return install


def test_another_project_s_distribution_beside_ours_is_reported_in_one_line(install, capsys):
    install("memorax-rl", "0.1.0", OURS)
    install("memorax", "1.0.1", "Something else")
    assert main(["--help"]) == 0
    assert capsys.readouterr().err == (
        "memorax: memorax 1.0.1, another project, is installed into the same folder as memorax-rl; "
        "uninstall both, then install memorax-rl again\n"
    )


def test_an_earlier_version_of_this_project_under_that_name_is_not_reported(install, capsys):
    install("memorax-rl", "0.1.0", OURS)
    install("memorax", "0.1.0", OURS)
    assert main(["--help"]) == 0
    assert capsys.readouterr().err == ""


def test_the_project_has_the_name_that_messages_give_it():
    assert PROJECT["name"] == installed_package.DISTRIBUTION


def test_no_page_installs_the_other_project():
    other = re.compile(r"pip install[^`\n]*[\s'\"]memorax(['\"\[\s`]|$)", re.M)
    assert other.search("pip install 'memorax[onnx]'")
    assert other.search("pip install memorax\n")
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    code = [*(ROOT / "memorax").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]
    found = [path.name for path in pages + code if other.search(path.read_text())]
    assert found == []


def test_the_lock_of_uv_has_every_extra_and_dependency():
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    (locked,) = (package["metadata"] for package in packages if package["name"] == PROJECT["name"])
    extras = PROJECT["optional-dependencies"]
    assert set(locked["provides-extras"]) == set(extras)
    declared = [*PROJECT["dependencies"], *(line for lines in extras.values() for line in lines)]
    names = {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in declared}
    assert {requirement["name"] for requirement in locked["requires-dist"]} == names
