"""The repository is the package: what pyproject.toml lists is what lies in the tree."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_listed_packages_are_the_packages_of_the_tree() -> None:
    """A new folder with an __init__.py has to be given its place in pyproject.toml."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(settings["tool"]["setuptools"]["packages"])

    skipped = {"build", "demo"}
    found = {
        ".".join(["orthofed", *path.parent.relative_to(ROOT).parts])
        for path in ROOT.rglob("__init__.py")
        if not any(
            part.startswith(".") or part in skipped or part == "node_modules"
            for part in path.relative_to(ROOT).parts
        )
    }

    assert found == listed


def test_the_root_holds_no_stray_module() -> None:
    """A root conftest.py would ship as orthofed.conftest (house-style.md 3)."""
    assert {path.name for path in ROOT.glob("*.py")} <= {
        "__init__.py",
        "__main__.py",
        "simulate.py",
    }


def test_every_requirement_is_pinned() -> None:
    """A fresh machine installs exactly what was tested."""
    pins = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in ("client", "dev", "docs", "faults", "flower", "simulation", "web"):
        wanted += project["optional-dependencies"][extra]

    names = {re.split(r"[\[<>=!]", requirement)[0].strip().lower() for requirement in wanted}

    assert names <= pins
