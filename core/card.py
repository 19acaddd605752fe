"""``card.md``: what a release says of itself to people, generated; hub pages read its first lines.

Laws (formats.md 10): everything follows from spec, contributions, files and withdrawals, so anyone
rebuilds it; about privacy it says only what security.md 9.1 permits. What people typed cannot
become markup in any dialect: a title is code, a front matter value a quoted string, all other names
are slugs, SPDX ids or checked by the spec. Not here: how it is used in which program (card_use.py).
"""

from collections.abc import Collection, Sequence
from textwrap import wrap
from typing import Final

from .card_use import shown_prompt, use_lines
from .described import Left
from .kinds import WHOLE
from .lorafile import FileOrigin
from .merging import Merge, Part
from .promises import AFTER_WITHDRAWAL, COPIES_REMAIN, MAY_REVEAL
from .release import FileEntry
from .release_file import MadeFile
from .sample_picture import picture_name

_HUB_LICENCES: Final = frozenset({
    "agpl-3.0", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-4.0", "cc0-1.0", "gpl-3.0", "lgpl-3.0", "mit",
    "mpl-2.0", "unlicense",
})  # fmt: skip
"""SPDX ids, in lower case, that hubs take as they are; any other is ``other`` with a name."""
_TOGETHER: Final = (
    "Two concepts in one picture need region prompts: `orthofed sample --region`.",
    "",
)
_OUT_OF_CODE: Final = str.maketrans("`|", "'\N{BROKEN BAR}")
_WIDTH: Final = 90


def card_text(
    merge: Merge,
    origin: FileOrigin,
    n: int,
    made: Sequence[MadeFile],
    files: Sequence[FileEntry],
    *,
    withdrawn: Sequence[Left],
) -> str:
    """Return card.md of release ``n``.

    ``files`` has the SHA-256 of every file in ``made``, and the sample pictures, if there are some.
    """
    spec, like = merge.spec, origin.architecture
    lines = [
        *_front_matter(merge, made),
        "",
        f"# {spec.name}, release {n}",
        "",
        _counted(len(merge.parts)),
        *_shared(merge),
        f"The base is {_code(spec.base.name)}, revision {_code(spec.base.revision)}: {like.title}.",
        "",
        *_table(merge),
        *_pictures(merge, {file.name for file in files}),
        "## Use",
        "",
        *use_lines(merge, origin, made),
        "",
        "## Verify",
        "",
        "`orthofed verify FOLDER` checks the signature, the ledger proof and every byte.",
        "",
        *_files(made, files),
        "## Licences",
        "",
        *_licences(merge),
        "",
        "## Limits and privacy",
        "",
        *(_TOGETHER if merge.parts else ()),
        *wrap(MAY_REVEAL, _WIDTH),
        "",
        *_claims(merge),
        *_withdrawals(withdrawn),
    ]
    return "\n".join(lines)


def _counted(number: int) -> str:
    if number == 0:
        return "No concept that everybody may read: the model is the base."
    if number == 1:
        return "One concept, trained by its owner on its own machine."
    return f"{number} concepts in one model, each trained by its owner on its own machine."


def _shared(merge: Merge) -> list[str]:
    """Return which concepts several owners taught, and what each one's images weigh."""
    told = [
        f"{part.manifest.concept} ({' + '.join(str(each.manifest.count) for each in part.owners)}"
        " images)"
        for part in merge.parts
        if part.owners
    ]
    if not told:
        return []
    words = f"Taught by several owners, each from pictures of its own: {', '.join(told)}."
    return wrap(words, _WIDTH)


def _front_matter(merge: Merge, made: Sequence[MadeFile]) -> list[str]:
    """Return the YAML that hubs read; values are quoted, so none is a number, a date or a list.

    A whole model is also what its base is, so that one's licence counts where there is one.
    """
    of_all = {part.manifest.licence for part in merge.parts}
    if not of_all or any(file.kind in WHOLE for file in made):
        of_all.add(merge.spec.base.licence)
    licences = sorted(of_all)
    prompts = [shown_prompt(merge.spec.prompt, p.manifest.triggers[0]) for p in merge.parts[:1]]
    known = licences[0].lower() if len(licences) == 1 else ""
    fields = [("license", known if known in _HUB_LICENCES else "other")]
    if known not in _HUB_LICENCES:
        fields.append(("license_name", " AND ".join(licences)))
    fields += [
        ("base_model", merge.spec.base.name),
        ("base_model_relation", "adapter"),
        ("library_name", "diffusers"),
        ("pipeline_tag", "text-to-image"),
    ]
    return [
        "---",
        *(f"{name}: {_quoted(value)}" for name, value in fields),
        "tags: [lora, text-to-image, orthogonal-adaptation]",
        *(f"instance_prompt: {_quoted(prompt)}" for prompt in prompts),
        "---",
    ]


def _table(merge: Merge) -> list[str]:
    """Return the table of concepts, if there are some."""
    if not merge.parts:
        return []
    return [
        "| concept | triggers | title | strength | licence | client key |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_row(part) for part in merge.parts),
        "",
    ]


def _row(part: Part) -> str:
    manifest = part.manifest
    triggers = ", ".join(f"`{trigger}`" for trigger in manifest.triggers)
    clients = ", ".join(f"`{each.manifest.client[:16]}`" for each in part.owners or (part,))
    return (
        f"| {manifest.concept} | {triggers} | {_code(manifest.title)} | {part.lambda_1024}/1024"
        f" | {_code(manifest.licence)} | {clients} |"
    )


def _pictures(merge: Merge, names: Collection[str]) -> list[str]:
    """Return the sample pictures, one a concept: relative links, so that a copy shows its own."""
    allowed = [part.manifest for part in merge.parts if part.manifest.pictures]
    shown = [manifest for manifest in allowed if picture_name(manifest.concept) in names]
    if not shown:
        return []
    told = (
        "By the operator's word, drawn with the whole model of this release, each from the prompt"
        " beside it and seed 0. They are signed like every file; another machine need not draw the"
        " same bytes, so no rebuild checks that they are the model's."
    )
    lines = ["## Samples", "", *wrap(told, _WIDTH), "", "| prompt | picture |", "| --- | --- |"]
    for manifest in shown:
        picture = f"![{manifest.concept}]({picture_name(manifest.concept)})"
        lines.append(f"| `{shown_prompt(merge.spec.prompt, manifest.triggers[0])}` | {picture} |")
    return [*lines, ""]


def _files(made: Sequence[MadeFile], files: Sequence[FileEntry]) -> list[str]:
    """Return the table of files, with the hashes that programs and galleries ask for."""
    if not made:
        return []
    sha256 = {file.name: file.sha256 for file in files}
    return [
        "| file | kind | type | AutoV2 | AutoV3 | SHA-256 of the tensors |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| `{file.name}` | {file.kind} | {file.dtype} | `{sha256[file.name][:10]}`"
            f" | `{file.tensors[:12]}` | `{file.tensors}` |"
            for file in made
        ),
        "",
    ]


def _licences(merge: Merge) -> list[str]:
    """Return each licence with the concepts under it, and the base's."""
    by_licence: dict[str, list[str]] = {}
    for part in merge.parts:
        by_licence.setdefault(part.manifest.licence, []).append(part.manifest.concept)
    lines = [f"- {_code(name)}: {', '.join(by_licence[name])}" for name in sorted(by_licence)]
    return [*lines, f"- {_code(merge.spec.base.licence)}: the base model"]


def _claims(merge: Merge) -> list[str]:
    """Return what contributors claim of differential privacy, as their own word."""
    claims = [
        f"- `{part.manifest.concept}`: {part.manifest.dp.said}"
        for part in merge.parts
        if part.manifest.dp is not None
    ]
    told = "Claimed and signed by their contributors; nobody else can check that noise was drawn:"
    return [told, "", *claims, ""] if claims else []


def _withdrawals(withdrawn: Sequence[Left]) -> list[str]:
    """Return the withdrawals so far, by slot and leaf, and what they cannot undo."""
    if not withdrawn:
        return []
    gone = ", ".join(f"slot {slot} (leaf {leaf})" for slot, leaf in withdrawn)
    return [
        f"Withdrawn so far: {gone}.",
        f"{AFTER_WITHDRAWAL} {COPIES_REMAIN}",
        "",
    ]


def _code(text: str) -> str:
    """Return ``text`` as markdown's code, which no dialect reads for markup, links or mentions.

    What could end the code or the cell is changed: a backtick into an apostrophe, a bar into a
    broken bar, what shows nothing into a question mark; info.json has the text as it was typed.

    >>> _code("a`|<b>")
    "`a'\N{BROKEN BAR}<b>`"
    """
    kept = text.strip().translate(_OUT_OF_CODE)
    shown = "".join(each if each.isprintable() else "?" for each in kept)
    return f"`{shown}`" if shown else ""


def _quoted(text: str) -> str:
    r"""Return ``text`` as a double-quoted string of YAML, in printable ASCII.

    >>> print(_quoted('a: "b"'))
    "a: \"b\""
    """
    return f'"{"".join(_yaml(character) for character in text)}"'


def _yaml(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    is_plain = character.isascii() and character.isprintable()
    return character if is_plain else f"\\U{ord(character):08x}"
