"""Many concepts, hostile names, and a house with slots of every kind, in a real browser.

It writes the pictures of docs/web.md that need more than the story has.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, FloatRect, expect

from orthofed.coordinator import records, verdicts
from orthofed.coordinator.policy import Policy
from orthofed.web.public_facts import Concept

from ..paged import paged
from ..serving import founded, running
from .browser import PHONE, Reader
from .gallery import gallery

pytestmark = pytest.mark.web
DOCS = Path(__file__).parents[2] / "docs"
NAMES = ("anna-k7", "bodo-x4", "cleo-m6", "dara-v3", "emil-t7", "fern-q4", "gino-r3", "hana-p6")
PATHS = ("/", "/concepts", "/picker", "/releases", "/releases/7")
BIDI = "\u202egnp.exe\u2066\u200f"
HOSTILE = (
    "<script>document.title='broken'</script>",
    '"><img src=/x onerror="document.title=1">',
    "</title><style>*{display:none}</style>",
    BIDI * 1_000,
    "x" * 10_000,
    "\u05e9\u05dc\u05d5\u05dd",
    "Z\u0351\u036b\u0343\u036a\u0302\u036b" * 40,
    "javascript:alert(1)",
)


def concept(number: int, name: str, **changed: object) -> Concept:
    """Return one concept."""
    made = Concept(
        name=name,
        triggers=(name,),
        title="",
        client=hashlib.sha256(name.encode("utf-8")).hexdigest(),
        licence="CC0-1.0",
        slot=number,
        leaf=2 + 2 * number,
        lambda_1024=1024,
        t=1_795_900_000,
        claim="",
        picture="samples",
    )
    return replace(made, **changed)


def test_eight_concepts_make_a_calm_first_page(browser: Browser):
    """The picture of docs/web.md."""
    made = [concept(number, name) for number, name in enumerate(NAMES)]
    with gallery(made) as address, Reader(browser, address) as reader:
        page = reader.open("/")
        expect(page.get_by_role("img", name="Sample of fern-q4")).to_be_visible()
        page.evaluate("Promise.all(Array.from(document.images, i => i.decode()))")
        page.set_viewport_size({"width": 1_080, "height": 1_020})
        page.screenshot(path=DOCS / "web-home.png")
        for path in PATHS:
            reader.check(path)


_TALL = FloatRect(x=0, y=0, width=1_080, height=1_360)


def test_hostile_names_stay_text_and_inside_the_page(browser: Browser):
    """Markup, turned writing, ten thousand characters: nothing runs, nothing is wider than a phone.

    No such name gets past admission; a title may hold markup.
    """
    made = [
        concept(number, f"plain-{number}", title=text, licence=text, claim=text, triggers=(text,))
        for number, text in enumerate(HOSTILE)
    ] + [concept(50 + n, text, picture="") for n, text in enumerate(HOSTILE)]
    with gallery(made) as address, Reader(browser, address, viewport=PHONE) as reader:
        for path in PATHS:
            reader.check(path)
            assert reader.page.title().endswith("peeps")
            assert "\u202e" not in reader.page.content()
        page = reader.open("/concepts")
        expect(page.get_by_text(HOSTILE[0]).first).to_be_visible()
        heights = page.locator(".card").evaluate_all("c => c.map(e => e.offsetHeight)")
        assert max(heights) < 2_400


def test_five_hundred_concepts_are_paged_found_and_picked(browser: Browser):
    """Eleven pages; a search finds one; a hundred are picked without a script."""
    made = [concept(number, f"wren-{number:03}") for number in range(500)]
    with gallery(made) as address:
        with Reader(browser, address) as reader:
            page = reader.open("/concepts")
            expect(page.get_by_text("Page 1 of 11")).to_be_visible()
            page.get_by_role("link", name="After").click()
            expect(page.locator(".card")).to_have_count(48)
            page.get_by_label("Name or trigger").fill("wren-499")
            page.get_by_role("button", name="Show").click()
            expect(page.locator(".card")).to_have_count(1)
            reader.check("/concepts")
            for path in PATHS:  # axe takes a minute for five hundred boxes of one kind
                reader.open(path)
                reader.fits(path)
        with Reader(browser, address, java_script_enabled=False) as reader:
            page = reader.open("/picker")
            for number in range(0, 500, 5):
                page.get_by_role("checkbox", name=f"wren-{number:03}").check()
            page.get_by_role("button", name="Show the command").click()
            expect(page.get_by_role("heading", name="100 concepts of 500")).to_be_visible()
            assert page.locator("#command-picked").inner_text().count("--concept") == 100


def test_a_house_with_slots_of_every_kind(browser: Browser, tmp_path: Path):
    """Free, leased, contributed, in quarantine, withdrawn: the operator's pictures."""
    with running(founded(tmp_path, rank=2)) as own, paged(own) as shown:
        for number, name in enumerate(NAMES[:6]):
            member = own.member()
            member.contribute(member.pack(member.lease(name, (name,)), seed=number))
        own.release()
        for name in NAMES[6:]:
            own.member().lease(name, (name,))
        own.desk.ask("reject", {"leaf": 3, "why": "a test"})
        _quarantine(own.house, 7)
        own.house.settings = replace(own.house.settings, admission=Policy())  # what is shown
        with Reader(browser, shown.address) as reader:
            page = reader.page
            page.goto(str(shown.logins.link("anna")["url"]))
            page.get_by_role("button", name="Log in").click()
            expect(page.locator(".slots .leased")).to_have_count(2)
            for kind in ("free", "filled", "emptying", "quarantined"):
                expect(page.locator(f".slots .{kind}").first).to_be_visible()
            page.set_viewport_size({"width": 1_080, "height": 1_000})
            page.screenshot(path=DOCS / "web-desk.png")
            page = reader.open("/operator/contributions/7")
            page.locator(".panels").scroll_into_view_if_needed()
            page.screenshot(path=DOCS / "web-evidence.png", full_page=True, clip=_TALL)
            for path in ("/operator", "/operator/contributions", "/operator/contributions/7"):
                reader.check(path)


def _quarantine(house, leaf: int) -> None:
    """Put one into quarantine with figures such as a gate would write."""
    figures = {
        "norm_percent": 32.1,
        "loudness_percent": 210.0,
        "retention_percent": -31.0,
        "own_retention_percent": 3.0,
        "copy_percent": 22.0,
        "layers": [round(8 + 24 * ((7 * n) % 40 / 40) ** 2, 1) for n in range(40)],
        "pairs": {"5": [-31.0, 2.0], "9": [12.0, -4.0], "11": [3.0, 3.0], "13": [-1.5, 0.5]},
    }
    why = "on the trigger of bodo-x4 it does -31 % of what that concept does there: it cancels"

    def write(turn) -> None:
        records.set_figures(turn.db, leaf, json.dumps(figures))
        verdicts.say(turn, house, leaf, "quarantined", code="retention", why=why)

    house.board.run(write)
