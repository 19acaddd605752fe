"""Some concepts at weights of one's own, as the one command that gives them.

Law: the form is a GET and its answer a page, so it works without a script and every choice has an
address; what is asked is matched with what the release holds, so nothing that a caller typed gets
into the command but numbers. Weights are those that ``orthofed pull`` takes: 0 to 2, to 1/1024.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .public_facts import Concept, Federation, Release
from .wording import counted, legible

_WEIGHT = re.compile(r"[0-9]{1,3}(?:\.[0-9]{0,6})?|\.[0-9]{1,6}")
_MOST_WEIGHT = 2.0
_FIELD = "w."


@dataclass(frozen=True, slots=True)
class Choice:
    """One concept that can be picked; ``weight`` is shown where it is picked."""

    name: str
    triggers: str
    picked: bool
    weight: str
    field: str
    problem: str
    picture: str


@dataclass(frozen=True, slots=True)
class PickerView:
    """The form and its result; ``command`` is empty until something is picked."""

    n: int
    choices: tuple[Choice, ...]
    picked: tuple[Choice, ...]
    summary: str
    command: str
    kinds: tuple[str, ...]
    kind: str
    problems: tuple[str, ...]


PROGRAMS = ("kohya", "a1111", "diffusers", "peft")
"""What can be composed for without the base model at hand."""


def picker(
    federation: Federation, release: Release, asked: Mapping[str, Sequence[str]]
) -> PickerView:
    """Return the form as it was filled in; ``asked`` are the fields of the address."""
    wanted = set(asked.get("c", ()))
    kind = next((each for each in asked.get("as", ()) if each in PROGRAMS), "")
    choices = [_choice(each, release.n, wanted, asked) for each in release.concepts]
    picked = [each for each in choices if each.picked]
    problems = [each.problem for each in picked if each.problem]
    unknown = len(wanted - {each.name for each in release.concepts})
    if unknown:
        problems.append(
            f"Release {release.n} does not hold {counted(unknown, 'concept')} that you asked for."
        )
    command = "" if problems or not picked else _command(federation, release, picked, kind)
    return PickerView(
        n=release.n,
        choices=tuple(choices),
        picked=tuple(picked),
        summary=f"{counted(len(picked), 'concept')} of {len(choices):,}",
        command=command,
        kinds=PROGRAMS,
        kind=kind,
        problems=tuple(problems),
    )


def _choice(
    concept: Concept, n: int, wanted: set[str], asked: Mapping[str, Sequence[str]]
) -> Choice:
    name = concept.name
    typed = next(iter(asked.get(f"{_FIELD}{name}", ())), "").strip()
    default = f"{concept.lambda_1024 / 1024:g}"
    weight = typed or default
    bad = not _WEIGHT.fullmatch(weight) or float(weight) > _MOST_WEIGHT
    return Choice(
        name=legible(name),
        triggers=", ".join(legible(trigger) for trigger in concept.triggers),
        picked=name in wanted,
        weight=legible(weight, 12),
        field=f"{_FIELD}{name}",
        problem=f"The weight of {legible(name)} is a number from 0 to 2, such as 0.8."
        if bad
        else "",
        picture=f"/releases/{n}/samples/{name}.png" if concept.picture else "",
    )


def _command(federation: Federation, release: Release, picked: Sequence[Choice], kind: str) -> str:
    words = ["orthofed", "pull", "--release", str(release.n)]
    for each in picked:
        words += ["--concept", each.name, "--weight", f"{each.name}={float(each.weight):g}"]
    words += ["--as", kind] if kind else []
    return shlex.join([*words, "-o", f"picked-{release.n}", federation.link])
