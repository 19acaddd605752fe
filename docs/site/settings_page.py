"""Reference of every file of settings: key, default, what is allowed, what it means.

Law: keys, defaults and bounds are those of the records that the files are read into, meanings those
of their fields or docstrings; a key whose record does not say what it means is an error here.
"""

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import Any

from commands_page import cell

from orthofed.client.daemon_settings import described
from orthofed.client.presets import PRESETS
from orthofed.client.training_settings import TrainingSettings
from orthofed.coordinator.folder import Settings
from orthofed.coordinator.policy import Policy
from orthofed.simulation.scenario import Scenario

ADDRESS = "reference/settings.md"
_TABLE = ("| key | default | allowed | meaning |", "| --- | --- | --- | --- |")
_PLAIN = ("| key | default | meaning |", "| --- | --- | --- |")


def settings_page() -> dict[str, str]:
    """Return the Markdown of the page by its address."""
    return {ADDRESS: "\n".join([*_head(), *_coordinator(), *_client(), *_presets(), *_rest(), ""])}


def _head() -> Iterator[str]:
    yield from ("# Settings", "")
    yield "All files are TOML. An unknown key, a wrong type or a value out of bounds is an error."


def _coordinator() -> Iterator[str]:
    yield from ("", "## coordinator.toml", "")
    yield "The operator's, in the coordinator's folder; written by `init`, read at each start."
    yield from ("", *_PLAIN, *_documented(Settings, leave={"admission"}))
    yield from ("", "### [admission]", "")
    yield "What a contribution may do; [what each gate measures](../admission.md#the-gates)."
    yield from ("", *_PLAIN, *_documented(Policy))


def _client() -> Iterator[str]:
    yield from ("", "## Training settings", "")
    yield (
        "For `orthofed client train --config FILE`; `orthofed client settings` prints them. Later"
        " wins: default, preset, file, option."
    )
    yield from ("", *_TABLE)
    for key, default, allowed, says in TrainingSettings.described():
        yield f"| `{key}` | `{_toml(default)}` | {cell(allowed)} | {cell(says)} |"
    yield from ("", "## daemon.toml", "")
    yield "For `orthofed client daemon`; keys of `concept.` stand in a `[[concept]]` table."
    yield from ("", *_TABLE)
    for key, default, allowed, says in described():
        yield f"| `{key}` | `{_toml(default)}` | {cell(allowed)} | {cell(says)} |"


def _presets() -> Iterator[str]:
    yield from ("", "## Presets", "")
    yield "What `--preset NAME` changes; starting points, not measured on the models they are for."
    yield from ("", f"| key | {' | '.join(PRESETS)} |", f"| --- |{' --- |' * len(PRESETS)}")
    keys = [item.name for item in fields(TrainingSettings)]
    for key in (key for key in keys if any(key in preset for preset in PRESETS.values())):
        values = (f"`{_toml(p[key])}`" if key in p else "" for p in PRESETS.values())
        yield f"| `{key}` | {' | '.join(values)} |"


def _rest() -> Iterator[str]:
    yield from ("", "## A scenario of orthofed simulate", "")
    yield "For `orthofed simulate --scenario FILE`."
    yield from ("", *_PLAIN, *_documented(Scenario))


def _documented(kind: type, leave: set[str] = frozenset()) -> Iterator[str]:  # pyright: ignore[reportArgumentType]  # never changed
    """Yield a row a field of a record whose docstring says what each of them means."""
    said = meanings(kind)
    for item in fields(kind):
        if item.name not in leave:
            key = item.name.rstrip("_")
            yield f"| `{key}` | {_default(item)} | {cell(said[item.name])} |"


def meanings(kind: type) -> dict[str, str]:
    """Return what a docstring says of each field: behind its name and a colon.

    Names that stand before one colon, such as "``slow``, ``bad``: shares", share what follows.
    """
    text = " ".join(inspect.cleandoc(kind.__doc__ or "").split())
    parts = re.split(r"((?:``\w+``(?:, )?)+): ", text)
    found: dict[str, str] = {}
    for names, meaning in zip(parts[1::2], parts[2::2], strict=True):
        for name in re.findall(r"\w+", names):
            found[name] = meaning.rstrip(" .,;").replace("``", "`")
    return found


def _default(item: "Field[Any]") -> str:
    return "" if item.default is MISSING else f"`{_toml(item.default)}`"


def _toml(value: object) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)  # pyright: ignore[reportUnknownArgumentType]  # of texts
