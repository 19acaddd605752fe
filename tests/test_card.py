"""card.md: nothing that people typed becomes markup or a second field; what it says of files."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import markdown
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from orthofed.core.card import card_text
from orthofed.core.contribution import ContributionManifest
from orthofed.core.errors import InputError, SpecError
from orthofed.core.layout import ContributionLayout
from orthofed.core.lorafile import FileOrigin
from orthofed.core.merging import Merge, Part
from orthofed.core.names import check_title
from orthofed.core.release import FileEntry
from orthofed.core.release_file import MadeFile
from orthofed.core.spec import FederationSpec

from .test_architecture import spec_of
from .test_lorafile import sd1

HASH = "ab" * 32
MANIFEST = ContributionManifest(
    basis=HASH,
    blob="12" * 32,
    bytes=8,
    client="34" * 32,
    concept="anna",
    fed="56" * 32,
    fence=1,
    licence="CC0-1.0",
    log="78" * 32,
    slot=0,
    t=0,
    triggers=("anna-k7",),
    title="Anna",
)
SD1 = sd1()
LAYOUT = ContributionLayout(SD1, (1,))
MADE = (
    MadeFile("lora/toy-fed-r0007.safetensors", "lora", "F16", "9a" * 32),
    MadeFile("lora/toy-fed-r0007-a1111.safetensors", "a1111", "F16", "bc" * 32),
    MadeFile("peft/unet/adapter_model.safetensors", "peft", "F16", "de" * 32),
)
FILES = [FileEntry(file.name, 1, f"{k}f" * 32, ()) for k, file in enumerate(MADE)]
COLUMNS = 6


def card(
    manifest: ContributionManifest = MANIFEST, spec: FederationSpec = SD1, *more: MadeFile
) -> str:
    part = Part(3, 614, manifest, LAYOUT, {}, lambda _at, _length: b"")
    merge = Merge(spec, (part,))
    files = [*FILES, *(FileEntry(file.name, 1, HASH, ()) for file in more)]
    made = (*MADE, *more)
    return card_text(merge, FileOrigin(spec, HASH), 7, made, files, withdrawn=[(4, 9)])


def fields(text: str) -> dict[str, object]:
    """Return the front matter, as a hub reads it."""
    _, front, _ = text.split("---\n", 2)
    return yaml.safe_load(front)


def body(text: str) -> str:
    return text.split("---\n", 2)[2]


def shape(text: str) -> list[str]:
    """Return what CommonMark with tables makes of a page: every node's kind, in order."""
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    found: list[str] = []
    for token in reader.parse(body(text)):
        found += [token.type, *(child.type for child in token.children or ())]
    return found


class Tags(HTMLParser):
    """The elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.feed(markdown.markdown(body(text), extensions=["tables", "fenced_code"]))

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.seen.append(f"{tag} {sorted(name for name, _ in attrs)}")


PIECES = st.sampled_from([
    "|", "||", "\\|", "\\", "`", "``", "```", "~~~", "\n", "\r", "\n\n---\n", "\x00", "\t", " ",
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</code></td>", "<!--", "<b>",
    "&lt;", "&#124;", "[a](https://x.y)", "![a](x)", "[a]: https://x.y", "https://x.y", "www.x.y",
    "a@x.y", "@you", "#1", "# ", "- ", "> ", "1. ", "***", "__", "~~", ":smile:", "$x$", "{{x}}",
    ": ", "- a: b", "!!python/object:os.system", "&a *a", "? ", "%YAML", "'", '"', "null", "~",
    "yes", "0x1f", "1e5", "2026-11-29", "\u2028", "\u202e", "\u200b", "\u2066", "\ufeff",
    "\U0001f600", "\ud800", "e\u0301" * 40, "a",
])  # fmt: skip
HOSTILE = st.lists(PIECES | st.text(max_size=8), min_size=1, max_size=9).map("".join)
SLUGS = st.sampled_from(["null", "yes", "off", "true", "123", "0x1f", "1e5", "2026-11-29", "nan"])
PLAIN = st.text("abYN019 .,:;/_()+#={}[]-", min_size=1, max_size=200).filter(str.strip)
"""What the spec lets a base be called."""


@cache
def harmless(slug: str, *, has_title: bool) -> tuple[list[str], list[str]]:
    """Return the nodes and elements of a card in which nobody typed anything odd."""
    title = "Anna" if has_title else ""
    given = replace(MANIFEST, title=title, concept=slug, triggers=(slug,), licence="LicenseRef-x")
    text = card(given, replace(SD1, name=slug))
    return shape(text), Tags(text).seen


@settings(derandomize=True, deadline=None, max_examples=1000)
@given(title=HOSTILE, licence=HOSTILE, slug=SLUGS, name=PLAIN)
def test_a_thousand_hostile_names_change_no_structure(
    title: str, licence: str, slug: str, name: str
) -> None:
    """T23: YAML, tables, HTML, fences, links, mentions, bidi, controls, long ones: text, all of it.

    Titles and licences as no reader of manifests would let them pass (the next test); two readers
    of markdown find the nodes of a harmless card and no other, and hubs the fields that were meant.
    """
    base = replace(SD1.base, name=name, revision=name, licence=name)
    given = replace(MANIFEST, title=title, licence=licence, concept=slug, triggers=(slug,))
    text = card(given, replace(SD1, base=base, name=slug))

    said = fields(text)
    assert said["base_model"] == name
    assert said["instance_prompt"] == f"a photo of {slug}"
    assert said["license"] in {"other", licence.lower()}
    assert said.get("license_name", licence) == licence
    assert set(said) - {"license_name"} == set(fields(card())) - {"license_name"}
    if licence.strip():  # an empty one is refused by every reader
        assert (shape(text), Tags(text).seen) == harmless(slug, has_title=bool(title.strip()))
    assert text.isprintable() or set(re.sub(r"[\n]", "", text)) <= set(
        filter(str.isprintable, text)
    )


@settings(derandomize=True, deadline=None, max_examples=300)
@given(title=HOSTILE)
def test_a_title_is_shown_as_it_was_typed_or_refused(title: str) -> None:
    """Only backticks and bars change, which would end the code or the cell."""
    try:
        checked = check_title(title)
    except InputError:
        return
    rows = [
        line for line in card(replace(MANIFEST, title=checked)).splitlines() if "| anna |" in line
    ]

    (row,) = rows
    assert row.count("|") == COLUMNS + 1
    shown = checked.replace("`", "'").replace("|", "\N{BROKEN BAR}").strip()
    assert row.split("|")[3].strip() == f"`{shown}`"


def test_a_federation_or_a_base_that_is_no_name_is_refused() -> None:
    """The spec holds no quote, backtick, bar, angle or line end, so no card does."""
    for name in ("a`b", "a|b", 'a"b', "a<b", "a\nb", "a\\b", "\u202ea", "x" * 201, ""):
        try:
            replace(SD1, base=replace(SD1.base, name=name))
        except SpecError:
            continue
        raise AssertionError(name)


def test_the_table_of_files_has_the_short_hashes() -> None:
    """formats.md 7: AutoV2 of the whole file, AutoV3 of its tensors."""
    text = card()

    for file, entry in zip(MADE, FILES, strict=True):
        row = f"`{entry.sha256[:10]}` | `{file.tensors[:12]}` | `{file.tensors}` |"
        assert f"| `{file.name}` | {file.kind} | F16 | {row}" in text


def test_one_licence_has_the_hubs_word_and_several_are_named() -> None:
    """`license` is an id that hubs know, or `other` and a name; the list says whose is which."""
    part = Part(3, 614, MANIFEST, LAYOUT, {}, lambda _at, _length: b"")
    other = replace(MANIFEST, slot=1, concept="rex", licence="LicenseRef-mine", triggers=("rex-1",))
    both = Merge(SD1, (part, replace(part, manifest=other)))
    text = card_text(both, FileOrigin(SD1, HASH), 7, MADE, FILES, withdrawn=())

    assert fields(card())["license"] == "cc0-1.0"
    assert fields(text)["license"] == "other"
    assert fields(text)["license_name"] == "CC0-1.0 AND LicenseRef-mine"
    assert "- `CC0-1.0`: anna\n- `LicenseRef-mine`: rex\n- `MIT`: the base model\n" in text


def test_a_whole_model_is_under_its_bases_licence_too() -> None:
    """Checkpoint and full file hold the base's weights: `license` speaks for these as well."""
    free = replace(SD1, base=replace(SD1.base, licence="CC0-1.0"))
    for kind in ("checkpoint", "full"):
        whole = MadeFile(f"{kind}/toy.safetensors", kind, "F16", "ef" * 32)

        told = fields(card(MANIFEST, SD1, whole))

        assert (told["license"], told["license_name"]) == ("other", "CC0-1.0 AND MIT")
        assert fields(card(MANIFEST, free, whole))["license"] == "cc0-1.0"


def test_web_uis_are_named_for_bases_that_they_know() -> None:
    """What is typed, by program (formats.md 10); a base of one's own has none of it."""
    own = replace(SD1, base=replace(SD1.base, family="other"))
    for spec in (SD1, spec_of("sd21"), spec_of("sdxl")):
        text = card(spec=spec)
        assert "`a photo of embedding:anna-k7`" in text
        assert "`<lora:toy-fed-r0007:1> a photo of anna-k7`" in text
        assert "`<lora:toy-fed-r0007-a1111:1> a photo of anna-k7`" in text

    assert "embedding:" not in card(spec=own)
    assert "know no such base model" in card(spec=own)
    assert "Stable Diffusion 2." in card(spec=spec_of("sd21"))


def test_a_whole_model_in_one_file_is_named_where_there_is_one() -> None:
    """The kind `full`, which a release need not have."""
    full = MadeFile("full/toy-fed-r0007-full.safetensors", "full", "F16", "ef" * 32)

    assert f"`{full.name}` among the checkpoints" in card(MANIFEST, SD1, full)
    assert "among the checkpoints" not in card()


def test_a_release_of_the_canonical_file_alone_names_no_other() -> None:
    """What consumers derive at home need not be published (info.json's `derived`)."""
    part = Part(3, 614, MANIFEST, LAYOUT, {}, lambda _at, _length: b"")
    merge = Merge(SD1, (part,))

    text = card_text(merge, FileOrigin(SD1, HASH), 7, MADE[:1], FILES, withdrawn=())

    assert f"`{MADE[0].name}` holds all concepts" in text
    assert not any(f"`{folder}/`" in text for folder in ("concepts", "diffusers"))
    assert not any(word in text for word in ("a1111.safetensors", "from peft", '"checkpoint"'))


def test_the_example_of_comfyui_follows_its_own_rule() -> None:
    """A space before `embedding:`, a space, a comma or the end after the name."""
    typed = re.findall(r"`([^`]*embedding:[^`]+)`", card())

    assert typed
    assert all(re.search(r"(?:^| )embedding:[a-z0-9-]+(?:[ ,]|$)", text) for text in typed)
