"""Calls into core are held to their annotations while tests run: the hook itself."""

import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import pytest
from beartype.roar import BeartypeCallHintViolation

from orthofed import core
from orthofed.core import basis

from .checked_types import check_types

SOURCE = """
from dataclasses import dataclass
import numpy as np
from jaxtyping import Float32

@dataclass(frozen=True, slots=True)
class Pair:
    left: Float32[np.ndarray, "m r"]
    right: Float32[np.ndarray, "r n"]
    name: str = ""

    def called(self) -> str:
        return self.name

    @property
    def first(self) -> Float32[np.ndarray, " n"]:
        return self.right

    @staticmethod
    def half(number: int) -> int:
        return number / 2

def product(a: Float32[np.ndarray, "m r"], b: Float32[np.ndarray, "r n"]) -> (
    Float32[np.ndarray, "m n"]
):
    return a @ b

def turned(a: Float32[np.ndarray, "m n"]) -> Float32[np.ndarray, "m n"]:
    return a.T

def rows(a: Float32[np.ndarray, "m r"]) -> "list[Float32[np.ndarray, ' r']]":
    return list(a)

def twice(number: int) -> int:
    return number * 2
"""


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Make a package with one of everything, and import it as core is."""
    folder = tmp_path / "looked_at"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "things.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    for name in ("looked_at", "looked_at.things"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    check_types("looked_at")
    return import_module("looked_at.things")


WRONG: dict[str, Callable[[Any], object]] = {
    "axes of two arguments": lambda made: made.product(ones(2, 3), ones(4, 5)),
    "a type of number": lambda made: made.product(ones(2, 3), ones(3, 5).astype("f8")),
    "a count of axes": lambda made: made.product(ones(2, 3), ones(3)),
    "no array": lambda made: made.product(ones(2, 3), [1.0]),
    "the result": lambda made: made.turned(ones(2, 3)),
    "an argument by its name": lambda made: made.rows(a=ones(3)),
    "axes of two fields": lambda made: made.Pair(ones(2, 3), ones(4, 5)),
    "a plain field": lambda made: made.Pair(ones(2, 3), ones(3, 5), 7),
    "a result of a property": lambda made: made.Pair(ones(2, 3), ones(3, 5)).first,
    "a result of a static method": lambda made: made.Pair.half(3),
    "a plain argument": lambda made: made.twice("a"),
    "core's own": lambda _: cast("Any", basis.block)(b"x" * 32, "to_q", width=4, rank=2, slot="0"),
}


def test_what_fits_passes_and_sizes_are_forgotten_between_calls(made: ModuleType) -> None:
    """Two calls with other sizes, one inside of the other's arguments."""
    a = made.product(ones(2, 3), made.product(ones(3, 4), ones(4, 5)))

    assert a.shape == (2, 5)
    assert made.Pair(ones(2, 3), ones(3, 4), "x").called() == "x"
    assert [row.shape for row in made.rows(ones(2, 3))] == [(3,), (3,)]
    assert made.twice(2) == 4


@pytest.mark.parametrize("wrong", WRONG)
def test_what_does_not_fit_is_refused(made: ModuleType, wrong: str) -> None:
    """Axes of two arguments, a type of number, a result, a field, a plain type; core's own too."""
    with pytest.raises(BeartypeCallHintViolation):
        WRONG[wrong](made)


def test_a_package_that_is_imported_already_is_refused() -> None:
    """Its functions would go unlooked at, and every test would pass."""
    with pytest.raises(RuntimeError, match="imported already"):
        check_types("orthofed.core")


def functions() -> Iterator[tuple[str, Callable[..., object]]]:
    for found in pkgutil.iter_modules(core.__path__, f"{core.__name__}."):
        module = import_module(found.name)
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__:
                yield f"{found.name}.{name}", value


def test_every_function_of_core_that_says_a_type_is_looked_at() -> None:
    """None came in by a way around the hook."""
    missed = [
        name
        for name, value in functions()
        if inspect.get_annotations(value) and not hasattr(value, "__wrapped__")
    ]

    assert not missed
    assert len(list(functions())) > 300
