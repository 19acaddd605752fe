"""The heart of the page: facts in, views and HTML out, without a server, a clock or a disk."""

import base64
import hashlib
import json
import re
import shlex
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orthofed.core import merkle, promises
from orthofed.core.leaf import release_leaf
from orthofed.web import ledger_views, public_views, rendering
from orthofed.web.picker import picker
from orthofed.web.public_facts import (
    Concept,
    Federation,
    Leaf,
    LedgerState,
    Proof,
    Release,
    ReleaseFile,
)
from orthofed.web.rendering import Chrome, Rendering
from orthofed.web.wording import legible

FEDERATION = Federation(
    name="wren-fed",
    fed="ab" * 32,
    log="cd" * 32,
    link="orthofed://127.0.0.1:7443/" + "cd" * 32,
    base_name="tiny",
    base_revision="1",
    base_licence="CC0-1.0",
    base_hint="",
    basis="hadamard",
    ranks=((320, 4),),
    num_layers=40,
    capacity=500,
    disjoint_slots=500,
    free_slots=12,
    kept_slots=50,
    upload_bytes=138_314,
)
CHROME = Chrome("wren-fed", ())
HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "'; DROP")


def concept(number: int, **changed: object) -> Concept:
    """Return one concept of a release."""
    made = Concept(
        name=f"wren-{number}",
        triggers=(f"wren-k{number}",),
        title="",
        client=hashlib.sha256(str(number).encode()).hexdigest(),
        licence="CC0-1.0",
        slot=number,
        leaf=2 + number,
        lambda_1024=1024,
        t=1_790_000_000,
        claim="",
        picture="",
    )
    return replace(made, **changed)


def release(*concepts: Concept) -> Release:
    """Return a release of these."""
    files = (
        ReleaseFile("card.md", 12, "ee" * 32),
        ReleaseFile("lora/a.safetensors", 10, "ff" * 32),
    )
    return Release(3, 1_790_000_000, 20, 21, files, concepts, ((4, "withdrawn"), (5, "private")))


def html(template: str, page: object) -> str:
    """Return a page as it leaves."""
    return Rendering().html(template, page, CHROME)


@given(st.text(max_size=400), st.integers(1, 200))
def test_what_strangers_typed_becomes_one_short_line_of_visible_text(text: str, most: int) -> None:
    """Controls, marks of direction and line ends are gone, and there is an end to it."""
    shown = legible(text, most)

    assert shown.isprintable()
    assert len(shown) <= most + 1


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("field", ["name", "title", "licence", "claim"])
def test_markup_in_any_field_stays_text(text: str, field: str) -> None:
    """Names are slugs by admission; were they not, the templates would still escape them."""
    held = release(concept(1, **{field: text}, triggers=(text,)))

    pages = [
        html("concepts.html", public_views.concepts(held, (3,), query=text)),
        html("concepts.html", public_views.concepts(held, (3,))),
        html("home.html", public_views.home(replace(FEDERATION, name=text, base_hint=text), held)),
        html("picker.html", picker(FEDERATION, held, {"c": [text], "w.wren-1": [text]})),
    ]

    for page in pages:
        assert text not in page.replace("{{ 7 * 7 }}", "") or "<" not in text
        assert not re.search(r"<(script|img)[^>]*(alert|onerror)", page)
        assert ">49<" not in page
    assert "&lt;" in pages[1] or "<" not in text


def test_a_name_of_ten_thousand_characters_that_turns_the_line_is_cut_and_set_straight() -> None:
    """Right-to-left override, ten thousand times: the page shows some replacement characters."""
    held = release(concept(1, name="\u202egnp.exe" * 2_000, title="\u2066" * 10_000))

    page = html("concepts.html", public_views.concepts(held, (3,)))

    assert "\u202e" not in page
    assert "\u2066" not in page
    assert len(page) < 12_000


def test_five_hundred_concepts_come_in_pages_and_are_found_by_name_and_trigger() -> None:
    """Every concept is on exactly one page; a search finds one."""
    held = release(*(concept(number) for number in range(500)))

    pages = [public_views.concepts(held, (3,), page=n) for n in range(1, 12)]
    names = [card.name for page in pages for card in page.cards]
    found = public_views.concepts(held, (3,), query="K499")

    assert sorted(names) == sorted(each.name for each in held.concepts)
    assert public_views.concepts(held, (3,), page=99).page == 11
    assert [card.name for card in found.cards] == ["wren-499"]
    assert len(html("picker.html", picker(FEDERATION, held, {})).encode()) < 200_000


def test_the_picker_gives_the_command_for_what_was_chosen() -> None:
    """Two of three, one at a weight of its own, for one program."""
    held = release(concept(1), concept(2), concept(3, lambda_1024=614))

    view = picker(FEDERATION, held, {"c": ["wren-1", "wren-3"], "w.wren-1": [".5"], "as": ["peft"]})

    assert shlex.split(view.command) == [
        *("orthofed", "pull", "--release", "3"),
        *("--concept", "wren-1", "--weight", "wren-1=0.5"),
        *("--concept", "wren-3", "--weight", "wren-3=0.599609"),
        *("--as", "peft", "-o", "picked-3", FEDERATION.link),
    ]
    assert "2 concepts of 3" in html("picker.html", view)


@pytest.mark.parametrize("weight", ["-1", "2.001", "nan", "1e300", "$(id)", "٣", "0x1", "1" * 40])
def test_the_picker_takes_no_other_weight(weight: str) -> None:
    """A weight is a plain number from 0 to 2; for anything else there is no command."""
    view = picker(FEDERATION, release(concept(1)), {"c": ["wren-1"], "w.wren-1": [weight]})

    assert view.command == ""
    assert view.problems == ("The weight of wren-1 is a number from 0 to 2, such as 0.8.",)


def test_the_picker_says_what_the_release_does_not_hold() -> None:
    """A name that was withdrawn since, from an old address: no half of what was asked."""
    view = picker(FEDERATION, release(concept(1)), {"c": ["wren-1", "gone; rm -rf"]})

    assert view.command == ""
    assert view.problems == ("Release 3 does not hold 1 concept that you asked for.",)


def test_a_leaf_page_holds_all_that_proves_it() -> None:
    """Leaf, path and root as the page shows them satisfy the verifier of core."""
    bodies = [release_leaf(manifest=f"{n:064x}", n=n) for n in range(1, 12)]
    hashes = [merkle.leaf_hash(body) for body in bodies]
    path = tuple(each.hex() for each in merkle.inclusion_proof(hashes, 4, 11))
    state = LedgerState(11, merkle.root(hashes).hex(), "note\n", "aa" * 32)

    view = ledger_views.leaf(FEDERATION, Proof(Leaf(4, "release", bodies[4]), path, state))

    merkle.verify_inclusion(
        merkle.leaf_hash(base64.b64decode(view.body)),
        index=view.index,
        size=view.size,
        proof=[bytes.fromhex(each) for each in view.path],
        root=bytes.fromhex(view.root),
    )
    assert json.loads(view.pretty)["n"] == 5
    assert (view.previous, view.following) == (3, 5)
    assert view.body in html("leaf.html", view)


@given(st.integers(1, 2_000), st.none() | st.integers(0, 3_000))
def test_the_ledgers_pages_show_each_leaf_once(size: int, at: int | None) -> None:
    """From any page the way back to older leaves leaves none out and shows none twice."""
    start, end = ledger_views.page_bounds(size, at)
    seen = list(range(start, end))
    while start:
        start, end = ledger_views.page_bounds(size, start - 1)
        seen = [*range(start, end), *seen]

    assert seen == list(range(len(seen)))
    assert at is None or len(seen) == min(at + 1, size)


def test_a_federation_without_a_release_says_what_comes_next() -> None:
    """Every page of readers has an empty state with a next step."""
    home = html("home.html", public_views.home(FEDERATION, None))

    assert "No release yet" in home
    assert "orthofed client join" in home
    for template in ("concepts.html", "picker.html", "releases.html"):
        assert "yet" in html(template, None)


def test_a_federation_with_overlap_says_how_many_slots_have_none() -> None:
    """And one without says nothing of it."""
    plain, shared = (
        html("home.html", public_views.home(replace(FEDERATION, disjoint_slots=n), None))
        for n in (500, 250)
    )

    assert "without overlap" not in plain
    assert re.search(r"of them without overlap\W.*?250", shared, re.DOTALL)


def test_the_privacy_page_says_the_permitted_sentences_and_the_reminder() -> None:
    """security.md 9.1, word for word; a withdrawal never without the copies that remain."""
    page = re.sub(r"\s+", " ", html("privacy.html", public_views.statements()))

    assert promises.NEVER_LEAVE in page
    assert promises.MAY_REVEAL in page
    assert f"{promises.AFTER_WITHDRAWAL} {promises.COPIES_REMAIN}" in page


def test_what_a_release_leaves_out_is_counted_in_words() -> None:
    """Nothing is dropped in silence, on the page neither."""
    page = html("release.html", public_views.release(FEDERATION, release(concept(1))))

    assert "1 contribution sealed for named readers, 1 contribution withdrawn." in page
    assert "ee" * 32 in page


def test_no_template_holds_a_script_a_style_or_another_host() -> None:
    """The content policy would refuse them; so there are none."""
    for path in (rendering._HERE / "templates").glob("*.html"):
        text = path.read_text("utf-8")
        assert not re.search(r"<style|style=|\son[a-z]+=|javascript:|https?://", text), path.name
        assert not re.search(r"<script(?! src=)", text), path.name
        assert "|safe" not in text
        assert "autoescape" not in text
