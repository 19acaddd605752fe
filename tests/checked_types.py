"""Holds every call into ``orthofed.core`` to its annotations, shapes included, while tests run.

``check_types(package)`` puts ``checked`` on each function and dataclass of the package as it is
imported. beartype looks at arguments, results and fields. Where an annotation has axes, jaxtyping
keeps their sizes for the length of one call, so that "m r" and "r n" must agree about r.
jaxtyping's own hook (``--jaxtyping-packages``) finds the same, but binds the signature of every
call, with or without an array in it, and calls two checkers: it took nine tenths of the time of a
test that reads headers. Here a call without axes costs beartype's microsecond.
"""

import ast
import dataclasses
import functools
import inspect
import sys
import typing
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import decode_source
from types import ModuleType
from typing import Any

from beartype import beartype
from jaxtyping import AbstractArray, jaxtyped

_DECORATOR = "__checked__"


def checked(what: Any) -> Any:
    """Return the function that looks at its arguments and its result; a dataclass, at its fields.

    A class that is no dataclass comes back as it is: its methods are looked at one by one.
    """
    if inspect.isclass(what):
        if dataclasses.is_dataclass(what):
            what.__init__ = _checked(what.__init__)
        return what
    return _checked(what)


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    looking = beartype(function)
    if not any(_has_axes(each) for each in inspect.get_annotations(function).values()):
        return looking

    @functools.wraps(function)
    def with_axes(*args: Any, **named: Any) -> Any:
        with jaxtyped("context"):
            return looking(*args, **named)

    return with_axes


def _has_axes(annotation: Any) -> bool:
    if inspect.isclass(annotation) and issubclass(annotation, AbstractArray):
        return True
    return any(_has_axes(each) for each in typing.get_args(annotation))


class _Marker(ast.NodeTransformer):
    """Puts the decorator next to each function, before any other sees it, and around each class."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.decorator_list.append(_decorator(node))
        self.generic_visit(node)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        node.decorator_list.insert(0, _decorator(node))
        self.generic_visit(node)
        return node


def _decorator(at: ast.stmt) -> ast.Name:
    return ast.copy_location(ast.Name(_DECORATOR, ast.Load()), at)


class _Loader(SourceFileLoader):
    """Compiles a module with the decorators in it, and keeps no bytecode of that."""

    def get_code(self, fullname: str) -> Any:
        path = self.get_filename(fullname)
        tree = ast.parse(decode_source(self.get_data(path)), path)
        return compile(ast.fix_missing_locations(_Marker().visit(tree)), path, "exec")

    def exec_module(self, module: ModuleType) -> None:
        setattr(module, _DECORATOR, checked)
        super().exec_module(module)


class _Finder(MetaPathFinder):
    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._package and not fullname.startswith(f"{self._package}."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def check_types(package: str) -> None:
    """Look at every call into a package that is about to be imported."""
    if package in sys.modules:
        raise RuntimeError(f"{package} is imported already, and its functions are as they are")
    sys.meta_path.insert(0, _Finder(package))
