"""What a data owner asks of `orthofed client daemon`: one TOML, closed, each value with its bounds.

    base = "/data/base"            # [[concept]] tables are the queue, taught in their order
    mode = "auto"

    [[concept]]
    name = "anna-k7"
    class_noun = "person"
    images = "/data/photos"

Law: an unknown key, a wrong type or a value out of bounds is an error that names the key, what it
says, and what is allowed; for an unknown key also the nearest known one. Relative paths start at
the file's own folder. How a concept is trained is not said here but in the preset or settings file
that it names, as for `orthofed client train`; both are read by the same code, in the process that
trains. Cost: no numpy, no torch: a waiting daemon stays small.
"""

# ruff: noqa: RUF009, FBT003 -- each field is made by a call that takes its default first

import difflib
from collections.abc import Collection
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

from ..core.errors import InputError
from ..core.memorisation import BY_HEART
from ..core.names import slug
from ..core.toml import parse_toml
from .hours import ALLOWED, Window
from .setting import broken, choice, exact, number, path, seen, switch, texts, word

Mode = Literal["always", "auto", "never"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)
Yes = Literal["ask", "policy"]

_MOST_CONCEPTS: Final = 64
_NAME: Final = r"[^\x00-\x1f]{1,128}"
_ANY: Final = "a text of 1 to 128 characters"


@dataclass(frozen=True, slots=True)
class ConceptSettings:
    """One concept of the queue: the options of `orthofed client train` by the same names."""

    name: str = word("", _NAME, _ANY, "of the concept, such as anna-k7")
    class_noun: str = word("", _NAME, _ANY, "what it is one of, such as person")
    images: str = path("", "folder of its images")
    base: str = path("", "folder of the base model; empty: that of the daemon")
    triggers: tuple[str, ...] = texts((), "trigger words; empty: the name")
    vectors: int = number(2, 1, 8, "learned vectors of each trigger")
    title: str = word("", r"|" + _NAME, "a text of at most 128 characters", "shown beside it")
    licence: str = word(
        "CC0-1.0", r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}", "an SPDX id", "of what you publish"
    )
    pictures: bool = switch(False, "whether releases may show a picture, drawn by the merged model")
    shared: bool = switch(False, "whether others may be let in: its number of images is signed")
    share: str = path("", "file with another owner's share, to teach its concept; empty: none")
    preset: str = word("", r"|" + _NAME, "a preset's name", "training settings by name")
    config: str = path("", "training settings in TOML")
    steps: int = number(0, 0, 100_000, "training steps; 0: as the settings say")
    seed: int = number(-1, -1, 2**63 - 1, "of every draw; -1: as the settings say")
    dp: str = word("", r"|eps=[0-9]{1,3}(\.[0-9]{1,3})?", "eps=8 or the like", "as --dp")
    dp_mode: str = word("", r"|sgd|mean", "sgd or mean", "as --dp-mode")
    private_to: tuple[str, ...] = texts((), "consumers it is sealed for; empty: public")
    enabled: bool = switch(True, "false leaves it out of the queue, and refuses orders for it")


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """Settings of one daemon; `described` lists them with units and bounds."""

    mode: Mode = choice("auto", Mode, "auto obeys what follows up to gpu_busy_percent")
    idle_minutes: float = number(10.0, 0, 1_440, "without a key pressed in any terminal; 0: any")
    hours: tuple[str, ...] = texts((), "windows of local time; none: any time")
    on_battery: bool = switch(False, "whether it works without mains")
    gpu_busy_percent: int = number(30, 0, 100, "of others on the GPU, and it waits; 100: never")
    max_temperature_c: int = number(90, 30, 120, "hottest part, GPU or processor; in any mode")
    min_free_disk_gb: float = number(5.0, 0, 1e6, "where the home lies; in any mode")
    max_disk_gb: float = number(0.0, 0, 1e6, "most that the home takes; 0: no limit; in any mode")
    gpu: str = word(
        "auto",
        r"auto|cpu|mps|cuda(:[0-9]{1,2})?",
        "auto or cpu or cuda or cuda:N or mps",
        "where concepts are trained",
    )
    upload_kib_s: int = number(0, 0, 10_000_000, "most KiB a second sent; 0: no limit")
    upload_mb_day: int = number(0, 0, 10_000_000, "most MB sent on one local day; 0: no limit")
    gate: Yes = choice("ask", Yes, "who says yes to what leaves: you, or the two bounds below")
    policy_upload_mb: float = number(200.0, 0, 1e6, "with policy, the largest contribution")
    policy_memorisation: float = number(
        BY_HEART, 0, 10, "with policy, the most learnt by heart; above it you are asked"
    )
    withdraw: Yes = choice("ask", Yes, "who says yes to an operator's order to withdraw")
    orders_socket: str = path("", "where couriers bring orders; empty: orders.sock in the home")
    retry_minutes: float = number(15.0, 0.01, 1_440, "longest pause before another try")
    log_mb: int = number(10, 1, 1_000, "size of a log file before the next one is begun")
    log_files: int = number(5, 1, 100, "older log files that are kept")
    base: str = path("", "folder of the base model, for concepts that name none")
    concepts: tuple[ConceptSettings, ...] = ()  # the [[concept]] tables, in their order
    windows: tuple[Window, ...] = ()  # what `hours` says

    @staticmethod
    def read(file: Path) -> "DaemonSettings":
        """Return the settings in the TOML ``file``.

        Raises InputError: it cannot be read, a key is unknown, a value is out of bounds, a concept
        lacks a name, a noun, images or base, or has another's name.
        """
        try:
            given = parse_toml(file.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{file} cannot be read as TOML: {error}",
                why="the daemon's settings are read from it",
                fix="correct the file, or give the right one with --config",
                code="settings-unreadable",
            ) from error
        tables = given.pop("concept", [])
        if (
            not isinstance(tables, list)
            or not 1 <= len(cast("list[Any]", tables)) <= _MOST_CONCEPTS
        ):
            raise _bad("concept", "nothing to do", f"1 to {_MOST_CONCEPTS} tables [[concept]]")
        folder = file.absolute().parent
        values = _values(DaemonSettings, given, "", also=("concept",))
        values["windows"] = tuple(_window(text) for text in values.get("hours", ()))
        for key in ("base", "orders_socket"):
            values[key] = _at(folder, values.get(key, ""))
        values["concepts"] = tuple(
            _concept(table, at, folder, values["base"])
            for at, table in enumerate(cast("list[Any]", tables), start=1)
        )
        _check_names(values["concepts"])
        return DaemonSettings(**values)

    def concept(self, name: str) -> ConceptSettings:
        """Return the concept called ``name``, which is in the queue."""
        return next(each for each in self.concepts if each.name == name)


def _values(kind: type, given: Any, where: str, *, also: Collection[str] = ()) -> dict[str, Any]:  # noqa: ANN401  # what TOML holds
    """Return the values of ``given`` as the fields of ``kind`` want them, each checked."""
    known = {item.name: item for item in fields(kind) if "says" in item.metadata}
    if not isinstance(given, dict):
        raise _bad(where or "the file", given, "a table of keys")
    values: dict[str, Any] = {}
    for key, raw in cast("dict[str, Any]", given).items():
        if key not in known:
            near = difflib.get_close_matches(key, [*known, *also], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise _bad(where + key, raw, f"one of the keys {', '.join((*also, *known))}{hint}")
        item = known[key]
        values[key] = exact(raw, type(item.default))
        if bounds := broken(item, values[key]):
            raise _bad(where + key, raw, bounds)
    return values


def _concept(table: object, at: int, folder: Path, base: str) -> ConceptSettings:
    where = f"concept {at}: "
    values = _values(ConceptSettings, table, where)
    for key in ("images", "base", "config", "share"):
        values[key] = _at(folder, values.get(key, ""))
    values["base"] = values["base"] or base
    for key in ("name", "class_noun", "images", "base"):
        if not values.get(key):
            raise _bad(where + key, "", "a value: it has to be given")
    try:
        values["name"] = slug(values["name"])
    except InputError as error:
        raise _bad(f"{where}name", values["name"], f"a concept's name: {error.why}") from error
    return ConceptSettings(**values)


def _check_names(concepts: tuple[ConceptSettings, ...]) -> None:
    names = [each.name for each in concepts]
    for at, name in enumerate(names):
        if name in names[:at]:
            raise _bad(f"concept {at + 1}: name", name, "a name that no other concept has")


def _window(text: str) -> Window:
    try:
        return Window.parse(text)
    except ValueError:
        raise _bad("hours", text, f"windows such as {ALLOWED}") from None


def _at(folder: Path, text: str) -> str:
    return str(folder / Path(text).expanduser()) if text else ""


def _bad(key: str, value: object, allowed: str) -> InputError:
    return InputError(
        f"daemon setting {key} = {seen(value)}, allowed is {allowed}",
        why="a daemon that misreads its settings works when it should not",
        fix=f"correct {key.rpartition(' ')[2]}; docs/daemon.md lists all of them",
        code="bad-daemon-setting",
    )


def described() -> list[tuple[str, object, str, str]]:
    """Return (key, default, allowed values, what it means) of every setting, concepts' too."""
    from .setting import allowed  # noqa: PLC0415  # for documents and tests alone

    return [
        (prefix + item.name, item.default, allowed(item), item.metadata["says"])
        for prefix, kind in (("", DaemonSettings), ("concept.", ConceptSettings))
        for item in fields(kind)
        if "says" in item.metadata and item.default is not MISSING
    ]
