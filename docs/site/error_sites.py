"""Every place in the sources that raises an OrthoFedError, and what it says there.

Law: found by reading the sources, so an error that nobody raises is not listed and one that
somebody adds is. A code or a text that is made of arguments of its own function is followed to that
function's callers, once; what is known at run time alone stands as an ellipsis. Not followed: an
error that came over a wire or from another process and is raised again with the words it had.
"""

import ast
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

ROOT = Path(__file__).parents[2]
PACKAGES = ("core", "proto", "coordinator", "client", "admission", "fleet", "simulation")
UNKNOWN = "…"
_PARTS = ("what", "why", "fix", "code")

Bound = Mapping[str, ast.expr]
Callers = dict[str, list[tuple[str, ast.Call]]]
"""By the name of what is called: in which file, and the call."""


@dataclass(frozen=True, slots=True)
class Context:
    """Where a call stands: the innermost function, and the `case` of a match in it."""

    function: ast.FunctionDef | None = None
    pattern: ast.pattern | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """One error as it is raised: its class, its stable code, and its three parts."""

    kind: str
    code: str
    what: str
    why: str
    fix: str
    path: str


def error_sites() -> list[Site]:
    """Return all of them, in the order of their codes."""
    trees = dict(_trees())
    calls = {path: list(_calls(tree)) for path, tree in trees.items()}
    callers: Callers = {}
    for path, each in calls.items():
        for call, _ in each:
            callers.setdefault(_name(call), []).append((path, call))
    kinds = _kinds(trees.values())
    found = {
        site
        for path, tree in trees.items()
        for call, context in calls[path]
        if _name(call) in kinds
        for site in _sites(call, context, path, constants=_constants(tree), callers=callers)
    }
    return sorted(found, key=lambda site: (site.code, site.path, site.what))


def _trees() -> Iterator[tuple[str, ast.Module]]:
    paths = [ROOT / "__main__.py"]
    for package in PACKAGES:
        paths += sorted((ROOT / package).rglob("*.py"))
    for path in paths:
        if not path.name.endswith("_pb2.py"):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text("utf-8"))


def _kinds(trees: Iterable[ast.Module]) -> set[str]:
    """Return the names of the error classes: the root, and whatever inherits one of them."""
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    kinds = {"OrthoFedError"}
    while True:
        more = {each.name for each in classes if kinds & set(map(_name, each.bases))}
        if more <= kinds:
            return kinds
        kinds |= more


def _name(node: ast.expr) -> str:
    """Return the last word of what is called or named."""
    if isinstance(node, ast.Call):
        return _name(node.func)
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def _calls(tree: ast.Module) -> Iterator[tuple[ast.Call, Context]]:
    """Yield every call with the function and the `case` that it stands in."""
    waiting: list[tuple[ast.AST, Context]] = [(tree, Context())]
    while waiting:
        node, context = waiting.pop()
        match node:
            case ast.FunctionDef():
                context = Context(node)
            case ast.match_case():
                context = Context(context.function, node.pattern)
            case ast.Call():
                yield node, context
            case _:
                pass
        waiting += [(child, context) for child in ast.iter_child_nodes(node)]


def _sites(
    call: ast.Call, context: Context, path: str, *, constants: Bound, callers: Callers
) -> Iterator[Site]:
    parts = {word.arg: word.value for word in call.keywords if word.arg in _PARTS}
    parts |= {"what": call.args[0]} if call.args else {}
    if set(parts) != set(_PARTS):
        return  # a class of errors that words itself
    for bound in _bindings(context.function, parts, path, callers):
        said = {part: _texts(value, {**constants, **bound}) for part, value in parts.items()}
        known = {code for code in said["code"] if UNKNOWN not in code}
        what, why, fix = (" / ".join(sorted(said[part])) for part in ("what", "why", "fix"))
        for code in known or _cases(context.pattern):
            yield Site(_name(call), code, what, why, fix, path)


def _bindings(
    function: ast.FunctionDef | None, parts: Bound, path: str, callers: Callers
) -> Iterator[Bound]:
    """Yield what each caller of ``function`` gives for the arguments that the parts are made of."""
    taken, names = set[str](), list[str]()
    if function is not None:
        names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
        names = names[1:] if names[:1] in (["self"], ["cls"]) else names
        taken = {*names, *(each.arg for each in function.args.kwonlyargs)}
    used = {node.id for part in parts.values() for node in ast.walk(part) if _is_name(node)}
    found = False
    if function is not None and used & taken:
        for where, call in callers.get(function.name, ()):
            if where == path or not function.name.startswith("_"):
                found = True
                yield {
                    **dict(zip(names, call.args, strict=False)),
                    **{word.arg: word.value for word in call.keywords if word.arg},
                }
    if not found:
        yield {}


def _is_name(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name)


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    return {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _cases(pattern: ast.pattern | None) -> set[str]:
    """Return the text that a `case` is for."""
    if isinstance(pattern, ast.MatchValue) and isinstance(pattern.value, ast.Constant):
        return {str(pattern.value.value)}
    return set()


def _texts(node: ast.expr, bound: Bound) -> set[str]:  # noqa: PLR0911  # a line a kind of node
    """Return what an expression may say, as far as the sources tell."""
    match node:
        case ast.Constant(value=str() as text):
            return {text}
        case ast.JoinedStr():
            return _joined([_texts(part, bound) for part in node.values])
        case ast.FormattedValue(value=value) if _is_name(value) and value.id in bound:
            return _texts(value, bound)
        case ast.FormattedValue(value=ast.Call() as value):
            return _texts(value, bound)
        case ast.BinOp(op=ast.Add()):
            return _joined([_texts(node.left, bound), _texts(node.right, bound)])
        case ast.IfExp():
            return _texts(node.body, bound) | _texts(node.orelse, bound)
        case ast.Name() if node.id in bound:
            return _texts(bound[node.id], {})
        case ast.Call(func=ast.Attribute(attr="replace", value=value), args=[old, new]):
            before, after = _texts(old, {}), _texts(new, {})
            return {
                t.replace(before.copy().pop(), after.copy().pop()) for t in _texts(value, bound)
            }
        case _:
            return {UNKNOWN}


def _joined(parts: list[set[str]]) -> set[str]:
    return {"".join(each) for each in itertools.product(*map(sorted, parts))}
