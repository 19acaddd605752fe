"""Reference of the command line: every command's help, arguments, options, example, exit codes.

Law: read from the parsers that run, so a page cannot promise an option that is not there. A group
has a page; commands without one share the first. Source: `orthofed.__main__.app`.
"""

import inspect
import re
from collections.abc import Iterator
from typing import TypeGuard

import click
import typer

from orthofed.__main__ import app
from orthofed.core import errors

FOLDER = "reference/commands"
_STREAMS = (
    "Every command may end with each of them. What failed has a stable code beside its text:"
    " [all of them](../errors.md). Results go to stdout, everything else to stderr; with `--json`"
    " a result or an error is one object. An interrupted command ends with 1 and says how to go"
    " on. `ORTHOFED_DEBUG=1` shows where an error happened."
)


def command_pages() -> dict[str, str]:
    """Return the Markdown of each page by its address."""
    root = typer.main.get_command(app)
    if not isinstance(root, click.Group):
        raise TypeError("orthofed is a group of commands")
    groups = {name: each for name, each in root.commands.items() if isinstance(each, click.Group)}
    single = {name: each for name, each in root.commands.items() if name not in groups}
    pages = {f"{FOLDER}/README.md": "\n".join(_index(root, single, groups))}
    for name, group in groups.items():
        lines = [f"# orthofed {name}", "", _prose(group.help)]
        for path, command in walk(group, (name,)):
            lines += _command(path, command)
        pages[f"{FOLDER}/{name}.md"] = "\n".join([*lines, ""])
    return pages


def walk(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command below ``group`` with its words, in the order of `--help`."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from walk(command, (*path, name))
        else:
            yield (*path, name), command


def _index(
    root: click.Group, single: dict[str, click.Command], groups: dict[str, click.Group]
) -> Iterator[str]:
    yield from ("# Commands", "", _prose(root.help), "")
    yield from ("| command | what it does |", "| --- | --- |")
    for name, command in single.items():
        yield f"| [`orthofed {name}`](#orthofed-{name}) | {_first(command)} |"
    for name, group in groups.items():
        for path, command in walk(group, (name,)):
            words = " ".join(path)
            yield f"| [`orthofed {words}`]({name}.md#{_slug(words)}) | {_first(command)} |"
    yield from ("", "## Exit codes", "", "| code | meaning |", "| --- | --- |")
    yield from _exit_codes()
    yield from ("", _STREAMS, "", "## Options of orthofed itself", "")
    yield from _options([each for each in root.params if each.name != "help"])
    for name, command in single.items():
        yield from _command((name,), command)
    yield ""


def _exit_codes() -> Iterator[str]:
    yield "| 0 | done |"
    kinds = [kind for kind in vars(errors).values() if _is_error(kind)]
    for code in sorted({kind.exit_code for kind in kinds}):
        said = {
            f"{kind.__doc__.splitlines()[0].rstrip('.')} (`{kind.__name__}`)"
            for kind in kinds
            if kind.exit_code == code and kind.__doc__
        }
        yield f"| {code} | {'; '.join(sorted(said))} |"


def _failures() -> str:
    codes = sorted({kind.exit_code for kind in vars(errors).values() if _is_error(kind)})
    return f"{', '.join(map(str, codes[:-1]))} or {codes[-1]}"


def _is_error(kind: object) -> TypeGuard[type[errors.OrthoFedError]]:
    return isinstance(kind, type) and issubclass(kind, errors.OrthoFedError)


def _command(path: tuple[str, ...], command: click.Command) -> Iterator[str]:
    words = " ".join(("orthofed", *path))
    context = click.Context(command, info_name=words)
    usage = " ".join(command.collect_usage_pieces(context))
    yield from ("", f"## {words}", "")
    yield from (_prose(command.help), "", "```text", f"{words} {usage}", "```", "")
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    if arguments:
        yield from ("| argument | | meaning |", "| --- | --- | --- |")
        for each in arguments:
            need = "required" if each.required else "optional"
            many = ", repeatable" if each.nargs == -1 else ""
            meaning = getattr(each, "help", None) or ""
            name = each.make_metavar(context).strip("[].")
            yield f"| `{name}` | {need}{many} | {cell(meaning)} |"
        yield ""
    yield from _options([each for each in command.params if isinstance(each, click.Option)])
    table = "#exit-codes" if len(path) == 1 else "README.md#exit-codes"
    yield from ("", f"Ends with [exit code]({table}) 0, or with {_failures()}.")
    example = (command.epilog or "").removeprefix("Example: ")
    yield from ("", "```console", f"$ {example}", "```")


def _options(params: list[click.Parameter]) -> Iterator[str]:
    options = [each for each in params if isinstance(each, click.Option) and not each.hidden]
    if not options:
        return
    yield from ("| option | value | meaning |", "| --- | --- | --- |")
    for each in options:
        names = ", ".join(f"`{name}`" for name in [*each.opts, *each.secondary_opts])
        yield f"| {names} | {_value(each)} | {cell(each.help or '')} |"


def _value(option: click.Option) -> str:
    if option.is_flag:
        return "" if option.default in (False, None) else "on"
    parts = [_kind(option)]
    if option.multiple:
        parts.append("repeatable")
    if option.required:
        parts.append("**required**")
    default = option.default
    if default not in (None, (), [], "") and not callable(default):
        shown = default.value if hasattr(default, "value") else default
        parts.append(f"default `{shown}`")
    return ", ".join(parts)


def _kind(option: click.Option) -> str:
    if isinstance(option.type, click.types._NumberRangeBase):  # noqa: SLF001  # it has no public name
        word = "integer" if isinstance(option.type, click.IntRange) else "number"
        least, most = option.type.min, option.type.max
        above = "above" if option.type.min_open else "from"
        below = "below" if option.type.max_open else "to"
        low = "" if least is None else f" {above} {least:g}"
        return word + low + ("" if most is None else f" {below} {most:g}")
    if isinstance(option.type, click.Choice):
        return " or ".join(f"`{choice}`" for choice in option.type.choices)
    shown = option.make_metavar(click.Context(click.Command("x")))
    return cell(shown if option.metavar else shown.strip("[]").lower())


def _prose(text: str | None) -> str:
    """Return help as Markdown: its paragraphs, without a terminal's line breaks."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text or "").replace("\b\n", ""))
    return "\n\n".join(escaped(" ".join(each.split())) for each in paragraphs)


def _first(command: click.Command) -> str:
    return cell(inspect.cleandoc(command.help or "").split("\n\n")[0])


def _slug(words: str) -> str:
    return f"orthofed-{words}".replace(" ", "-")


def cell(text: str) -> str:
    """Return a text for a cell of a table."""
    return escaped(" ".join(text.split())).replace("|", "\\|")


def escaped(text: str) -> str:
    """Return plain text as Markdown that reads the same; what stands in backticks stays code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return _escaped(text)
    return "`".join(part if i % 2 else _escaped(part) for i, part in enumerate(parts))


def _escaped(text: str) -> str:
    return re.sub(r"([\\<>*_\[\]])", r"\\\1", text)
