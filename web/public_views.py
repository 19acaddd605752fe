"""What the public pages say, from facts alone: pure functions to frozen values for templates.

Law: no page decides anything in its template but where a value stands; what strangers typed has
passed ``legible`` here. Not here: reading (public_reader.py), the ledger's pages (ledger_views.py),
the picker (picker.py).
"""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..core import promises
from .public_facts import Concept, Federation, Release, ReleaseFile
from .wording import counted, day_text, iso_text, legible, size_text

PAGE = 48
"""Concepts on one page."""
_KEY = 16
"""Digits of a client key that a page shows: the pseudonym."""
_WHY = {
    "pending": "waiting to be measured",
    "private": "sealed for named readers",
    "quarantined": "in quarantine",
    "rejected": "rejected",
    "superseded": "superseded by a later one of its concept",
    "withdrawn": "withdrawn",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a row of numbers: what it counts, and a word more."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """A command to copy; ``id`` is the element that the copy button reads."""

    id: str
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class HomeView:
    """The first page."""

    name: str
    lede: str
    figures: tuple[Figure, ...]
    facts: tuple[Figure, ...]
    commands: tuple[Command, ...]
    cards: tuple["Card", ...]
    newest: int
    when: str
    iso: str


@dataclass(frozen=True, slots=True)
class Card:
    """One concept as a card."""

    name: str
    anchor: str
    title: str
    triggers: tuple[str, ...]
    client: str
    key: str
    day: str
    iso: str
    licence: str
    weight: str
    leaf: int
    claim: str
    picture: str


@dataclass(frozen=True, slots=True)
class ConceptsView:
    """A page of concepts of one release, those whose name or trigger holds ``query``."""

    n: int
    numbers: tuple[int, ...]
    cards: tuple[Card, ...]
    query: str
    found: str
    page: int
    pages: int


@dataclass(frozen=True, slots=True)
class FileRow:
    """One file of a release."""

    name: str
    size: str
    sha256: str


@dataclass(frozen=True, slots=True)
class FileGroup:
    """The files of one folder of a release, with what they are for."""

    name: str
    purpose: str
    files: tuple[FileRow, ...]
    size: str


@dataclass(frozen=True, slots=True)
class ReleaseView:
    """One release with every file."""

    n: int
    when: str
    iso: str
    figures: tuple[Figure, ...]
    left_out: tuple[str, ...]
    commands: tuple[Command, ...]
    groups: tuple[FileGroup, ...]
    leaf: int


@dataclass(frozen=True, slots=True)
class Statement:
    """One paragraph on privacy under its heading."""

    heading: str
    text: str


_FOLDERS = {
    "": "what the release says of itself",
    "checkpoint": "the whole merged model, for diffusers",
    "concepts": "one LoRA a concept",
    "diffusers": "the LoRA under diffusers' own names",
    "embeddings": "the triggers' learned vectors",
    "full": "one file for ComfyUI, AUTOMATIC1111 and Forge",
    "layerwise": "the triggers' vectors, layer by layer",
    "lora": "all concepts in one LoRA",
    "peft": "the LoRA for PEFT",
    "samples": "sample pictures",
}


def home(federation: Federation, release: Release | None) -> HomeView:
    """Return the first page; ``release`` is the newest, None before the first."""
    taught = 0 if release is None else len(release.concepts)
    lede = (
        f"Many owners, one model. Each teaches {legible(federation.base_name)} one concept on a"
        " machine of their own; what they learnt is added up here, and anyone can check the sum."
    )
    figures = (
        Figure("concepts in the newest release", f"{taught:,}", "taught, accepted, published"),
        Figure("slots free", f"{federation.free_slots:,}", f"of {federation.capacity:,}"),
        Figure("one contribution", size_text(federation.upload_bytes), "sent once"),
        Figure("release", f"{0 if release is None else release.n}", "the newest"),
    )
    cards = () if release is None else tuple(_card(each, release.n) for each in release.concepts)
    shown = [each for each in cards if each.picture] or list(cards)
    return HomeView(
        name=legible(federation.name),
        lede=lede,
        figures=figures if release is not None else figures[:3],
        facts=_facts(federation),
        commands=_commands(federation.link, 0),
        cards=tuple(shown[:8]),
        newest=0 if release is None else release.n,
        when="" if release is None else day_text(release.t),
        iso="" if release is None else iso_text(release.t),
    )


def _facts(federation: Federation) -> tuple[Figure, ...]:
    ranks = sorted({rank for _, rank in federation.ranks})
    kept = f", {federation.kept_slots} kept for the operator" if federation.kept_slots else ""
    overlap = federation.disjoint_slots < federation.capacity
    said = [
        Figure("base model", legible(federation.base_name), federation.base_licence),
        Figure("where to get it", legible(federation.base_hint)),
        Figure("layers that learn", f"{federation.num_layers:,}"),
        Figure("columns a slot owns", " to ".join(str(r) for r in {ranks[0]: 0, ranks[-1]: 0})),
        Figure("slots", f"{federation.capacity:,}{kept}"),
        Figure("of them without overlap", f"{federation.disjoint_slots:,}" * overlap),
        Figure("basis", federation.basis),
        Figure("federation id", federation.fed),
        Figure("log id", federation.log),
    ]
    return tuple(each for each in said if each.value)


def concepts(
    release: Release, numbers: Sequence[int], *, query: str = "", page: int = 1
) -> ConceptsView:
    """Return one page of a release's concepts; a page out of range is the nearest one."""
    wanted = legible(query.strip().lower(), 80)
    found = [
        each
        for each in release.concepts
        if wanted in each.name or any(wanted in trigger for trigger in each.triggers)
    ]
    pages = max(1, -(-len(found) // PAGE))
    page = min(max(1, page), pages)
    shown = found[(page - 1) * PAGE : page * PAGE]
    return ConceptsView(
        n=release.n,
        numbers=tuple(sorted(numbers, reverse=True)),
        cards=tuple(_card(each, release.n) for each in shown),
        query=wanted,
        found=counted(len(found), "concept"),
        page=page,
        pages=pages,
    )


def _card(concept: Concept, n: int) -> Card:
    return Card(
        name=legible(concept.name),
        anchor=f"concept-{concept.leaf}",
        title=legible(concept.title),
        triggers=tuple(legible(trigger) for trigger in concept.triggers),
        client=concept.client[:_KEY],
        key=concept.client,
        day=day_text(concept.t),
        iso=iso_text(concept.t),
        licence=legible(concept.licence),
        weight=f"{concept.lambda_1024 / 1024:g}",
        leaf=concept.leaf,
        claim=legible(concept.claim, 400),
        picture=f"/releases/{n}/samples/{concept.name}.png" if concept.picture else "",
    )


def release(federation: Federation, found: Release) -> ReleaseView:
    """Return the page of one release."""
    total = sum(file.num_bytes for file in found.files)
    reasons = Counter(why for _, why in found.left_out)
    return ReleaseView(
        n=found.n,
        when=day_text(found.t),
        iso=iso_text(found.t),
        figures=(
            Figure("concepts", f"{len(found.concepts):,}"),
            Figure("files", f"{len(found.files):,}"),
            Figure("together", size_text(total)),
            Figure("ledger", f"{found.size:,}", "leaves when it was planned"),
        ),
        left_out=tuple(
            f"{counted(number, 'contribution')} {_WHY.get(why, why)}"
            for why, number in sorted(reasons.items())
        ),
        commands=_commands(federation.link, found.n),
        groups=_groups(found.files),
        leaf=found.leaf,
    )


def _groups(files: Sequence[ReleaseFile]) -> tuple[FileGroup, ...]:
    folders: dict[str, list[ReleaseFile]] = {}
    for file in files:
        folder = file.name.partition("/")[0] if "/" in file.name else ""
        folders.setdefault(folder, []).append(file)
    return tuple(
        FileGroup(
            name=legible(folder) or "release",
            purpose=_FOLDERS.get(folder, ""),
            files=tuple(
                FileRow(legible(f.name, 260), size_text(f.num_bytes), f.sha256)
                for f in folders[folder]
            ),
            size=size_text(sum(file.num_bytes for file in folders[folder])),
        )
        for folder in sorted(folders)
    )


def _commands(link: str, n: int) -> tuple[Command, ...]:
    folder = f"release-{n}" if n else "newest"
    numbered = ["--release", str(n)] if n else []
    return (
        Command("pull", "Get it, checked to the byte", shlex.join(
            ["orthofed", "pull", *numbered, "-o", folder, link]
        )),
        Command("verify", "Check a folder again, offline", f"orthofed verify {folder}"),
    )  # fmt: skip


def statements() -> tuple[tuple[Statement, ...], tuple[Statement, ...]]:
    """Return what is promised, and what is not; T27, security.md 9.1: these sentences alone."""
    promised = (
        Statement("What stays at home", promises.NEVER_LEAVE),
        Statement("A way out", f"{promises.AFTER_WITHDRAWAL} {promises.COPIES_REMAIN}"),
        Statement("Named readers", f"{promises.NAMED_READ} They can pass it on."),
        Statement("Names", "The ledger names a fresh key for each lease."),
    )
    not_promised = (
        Statement("What a concept shows", promises.MAY_REVEAL),
        Statement(
            "The sum hides nothing",
            "Adding contributions up does not blur them: the blocks are public, and where they are"
            " disjoint each contribution is read off the sum, exactly.",
        ),
        Statement(
            "Who is behind a key",
            "The coordinator knows which member took which lease, and from which address a call"
            " came; its operator can read both.",
        ),
        Statement(
            "Noise",
            "A claim of differential privacy on a concept's card is its contributor's own signed"
            " word. Nobody else can check that noise was drawn.",
        ),
    )
    return promised, not_promised
