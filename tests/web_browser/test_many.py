"""Five hundred concepts, as real contributions in a real release, in a real browser.

Rows and manifests are written by the coordinator's own code (grown.py), blobs are random numbers of
the right form, and the release is merged, signed and published as every other one.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from orthofed.core.spec import FederationSpec, Limits
from orthofed.simulation.toy import Toy

from ..grown import grow
from ..member import random_blob
from ..paged import Paged, paged
from ..serving import founded, running
from .browser import Reader

pytestmark = pytest.mark.web
CONCEPTS = 500


def _base(folder: Path) -> Path:
    """Write a base with room for as many: its layers are 1,024 wide."""
    return Toy.of(0, 1_024).write(folder)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paged]:
    """Serve a release of five hundred concepts."""
    limits = Limits(operator_slots_percent=0)
    folder = founded(tmp_path_factory.mktemp("many"), rank=2, make=_base, limits=limits)
    spec = FederationSpec.from_bytes((folder.public / "spec.json").read_bytes())
    grow(
        folder.root,
        num_leaves=2 + 2 * CONCEPTS,
        num_blobs=CONCEPTS,
        blob_of=lambda slot: random_blob(spec, (1,), seed=slot, size=0.02),
    )
    with running(folder) as own, paged(own) as page:
        assert own.release()["concepts"] == CONCEPTS
        own.house.heads.write()
        yield page


def test_they_are_paged_found_and_shown_one_by_one(many: Paged, browser: Browser):
    """Eleven pages of concepts; a search finds one; its leaf is proved by the browser."""
    with Reader(browser, many.address) as reader:
        page = reader.open("/concepts")
        expect(page.get_by_text("Page 1 of 11")).to_be_visible()
        page.get_by_role("link", name="After").click()
        expect(page.locator(".card")).to_have_count(48)
        page.get_by_label("Name or trigger").fill("wren-499")
        page.get_by_role("button", name="Show").click()
        expect(page.locator(".card")).to_have_count(1)
        page.locator(".card").get_by_role("link").last.click()
        page.get_by_role("button", name="Check this proof").click()
        expect(page.get_by_role("status")).to_contain_text("Yes")


def test_axe_minds_nothing_on_their_pages_as_they_are_served(many: Paged, browser: Browser):
    """Concepts by 48 in both schemes; five hundred boxes, and every file, in one each."""
    with Reader(browser, many.address) as reader:
        for path in ("/", "/concepts", "/ledger"):
            reader.check(path)
        reader.check("/picker", "light")
        reader.check("/releases/1", "dark")


def test_a_hundred_are_picked_without_a_script(many: Paged, browser: Browser):
    """The command names each."""
    with Reader(browser, many.address, java_script_enabled=False) as reader:
        page = reader.open("/picker")
        for number in range(0, CONCEPTS, 5):
            page.locator(f"input[type=checkbox][value=wren-{number}]").check()
        page.get_by_role("button", name="Show the command").click()
        expect(page.get_by_role("heading", name="100 concepts of 500")).to_be_visible()
        assert page.locator("#command-picked").inner_text().count("--concept") == 100


def test_the_operators_map_of_five_hundred_slots(many: Paged, browser: Browser):
    """Small cells, each with its number and kind for who cannot see its colour."""
    with Reader(browser, many.address) as reader:
        reader.page.goto(str(many.logins.link("anna")["url"]))
        reader.page.get_by_role("button", name="Log in").click()
        expect(reader.page.locator(".slots.small .filled")).to_have_count(CONCEPTS)
        reader.check("/operator", "light")
