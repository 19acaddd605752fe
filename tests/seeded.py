"""Seeded bugs: small patches in tests/seeded_bugs/ that a fault test must catch (reliability.md 7).

A patch is a unified diff against one file; its first lines say in words what it breaks. Hunks are
found by their text, not by line numbers, so they survive edits elsewhere in the file. A hunk that
fits nowhere, or twice, is an error, never a bug that silently is none. Shipped code has no switch.

    with Bug.named("fence-not-compared").in_process():  # functions that a test calls
    with Bug.named("fence-not-compared").everywhere():  # all modules, for objects made inside
    env = Bug.named("sync-forgotten").environment(tmp)  # a patched package, for real processes
"""

import ast
import importlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent
FOLDER = Path(__file__).parent / "seeded_bugs"
_PACKAGES = ("core", "proto", "fleet", "coordinator", "client", "assets")


@dataclass(frozen=True)
class Bug:
    """One seeded bug: its name, what it breaks, the file, and the patched source."""

    name: str
    says: str
    path: str
    source: str

    @classmethod
    def named(cls, name: str) -> "Bug":
        """Read and apply ``tests/seeded_bugs/<name>.patch``."""
        text = (FOLDER / f"{name}.patch").read_text("utf-8")
        says, _, diff = text.partition("--- a/")
        path, _, hunks = diff.partition("\n")
        source = (ROOT / path).read_text("utf-8")
        for hunk in hunks.split("\n@@")[1:]:
            source = _apply(source, hunk.partition("\n")[2], name)
        ast.parse(source)
        return cls(name, says.strip(), path, source)

    @contextmanager
    def in_process(self) -> Iterator[None]:
        """Let the module's functions and classes be the patched ones until the block ends.

        Whoever calls ``module.function`` gets the patched one, and so does the module itself;
        who imported the name before keeps the good one.
        """
        module = self._imported()
        before = dict(vars(module))
        code = compile(self.source, str(ROOT / self.path), "exec")
        try:
            exec(code, vars(module))  # noqa: S102  # our own source with one line changed
            yield
        finally:
            vars(module).clear()
            vars(module).update(before)

    @contextmanager
    def everywhere(self) -> Iterator[None]:
        """Do as ``in_process``, and let who imported a name before have the patched one too."""
        module = self._imported()
        good = {
            name: value
            for name, value in vars(module).items()
            if getattr(value, "__module__", None) == module.__name__
        }
        changed: list[tuple[ModuleType, str, object]] = []
        with self.in_process():
            bad = dict(vars(module))
            for other in [m for n, m in sys.modules.items() if n.startswith("orthofed.")]:
                for name, value in list(vars(other).items()) if other is not module else ():
                    if name in good and value is good[name]:
                        changed.append((other, name, value))
                        setattr(other, name, bad[name])
            try:
                yield
            finally:
                for other, name, value in changed:
                    setattr(other, name, value)

    def tree(self, folder: Path) -> Path:
        """Return ``folder`` with a patched copy of the package: put it first on PYTHONPATH."""
        copy = folder / "orthofed"
        for package in _PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__", "pocket-*")
            shutil.copytree(ROOT / package, copy / package, ignore=ignored)
        for name in ("__init__.py", "__main__.py"):
            shutil.copy(ROOT / name, copy / name)
        (copy / self.path).write_text(self.source, "utf-8")
        return folder

    def environment(self, folder: Path) -> dict[str, str]:
        """Return the environment in which ``orthofed`` is the patched copy."""
        return {**os.environ, "PYTHONPATH": str(self.tree(folder))}

    def _imported(self) -> ModuleType:
        name = "orthofed." + self.path.removesuffix(".py").replace("/", ".")
        return sys.modules.get(name) or importlib.import_module(name)


def _apply(source: str, hunk: str, name: str) -> str:
    lines = hunk.rstrip("\n").split("\n")
    old = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("+"))
    new = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("-"))
    if source.count(old) != 1:
        raise AssertionError(
            f"{name}: a hunk fits {source.count(old)} places, must fit one:\n{old}"
        )
    return source.replace(old, new)
