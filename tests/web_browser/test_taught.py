"""The page of a federation that really trained; it writes the pictures of docs/web.md.

Its concepts, sample pictures, measured figures and evidence are what clients, releases and the
admission worker made of it (taught.py); a client trains while the operator's map is looked at.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, FloatRect, Page, expect

from ..coordinator_process import Coordinator, run
from .browser import Reader
from .taught import ASKED, GONE, RELEASED, STEPS, WAITS, taught, train

pytestmark = pytest.mark.web
DOCS = Path(__file__).parents[2] / "docs"
PUBLIC = ("/", "/concepts", "/picker", "/releases", "/releases/1", "/ledger")
_COMES = "hana-p6"
_LONG_MS = 240_000


@dataclass
class Taught:
    """The coordinator and its page."""

    coordinator: Coordinator
    address: str
    folder: Path

    def operator(self, browser: Browser) -> Reader:
        """Return a window that is logged in."""
        reader = Reader(browser, self.address)
        said = run("coordinator", "login-link", str(self.coordinator.folder)).stdout
        reader.page.goto(said.strip())
        reader.page.get_by_role("button", name="Log in").click()
        expect(reader.page.get_by_role("heading", name="Overview")).to_be_visible()
        return reader


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Taught]:
    """Serve a copy of it with its page."""
    folder = tmp_path_factory.mktemp("taught")
    with Coordinator(Path(shutil.copytree(taught(), folder / "fed"))) as coordinator:
        coordinator.start("--web", "127.0.0.1:0")
        yield Taught(coordinator, coordinator.said["page"], folder)


def _drawn(page: Page) -> list[int]:
    """Wait for every picture of a page; return how wide each really is."""
    page.evaluate("Array.from(document.images, i => { i.loading = 'eager'; })")
    page.evaluate("Promise.all(Array.from(document.images, i => i.decode()))")
    return page.evaluate("Array.from(document.images, i => i.naturalWidth)")


def test_readers_see_what_was_really_drawn(shown: Taught, browser: Browser) -> None:
    """Six concepts with pictures of the merged model, each another."""
    with Reader(browser, shown.address) as reader:
        page = reader.open("/")
        assert _drawn(page) == [64] * len(RELEASED)
        for name in RELEASED:
            expect(page.get_by_role("img", name=f"Sample of {name}")).to_be_visible()
        page.set_viewport_size({"width": 1_080, "height": 1_020})
        page.screenshot(path=DOCS / "web-home.png")
        for path in PUBLIC:
            reader.check(path)


def test_the_operator_sees_numbers_and_pictures_of_what_waits(
    shown: Taught, browser: Browser
) -> None:
    """The worker's own: gates, layers, interference, nine pictures with words for each."""
    with shown.operator(browser) as reader:
        page = reader.open("/operator/contributions")
        page.get_by_role("link", name=WAITS, exact=True).click()
        assert _drawn(page) == [64] * 9
        drawn = ASKED.replace("{}", WAITS)
        for who in ("the base alone", "release 1 without it", "release 1 with it"):
            expect(page.get_by_role("img", name=f"“{drawn}”, {who}")).to_be_visible()
        expect(page.get_by_role("rowheader", name="neutral prompts, on the base")).to_be_visible()
        for title in ("Norm of each layer", "What it does on other", "The same on the base model"):
            expect(page.get_by_role("img", name=title)).to_be_visible()
        page.screenshot(path=DOCS / "web-evidence.png", full_page=True, clip=_TALL)
        reader.check(page.url.removeprefix(shown.address))
    with Reader(browser, shown.address) as stranger:
        leaf = page.url.rpartition("/")[2]
        path = f"/operator/contributions/{leaf}/pictures/trigger-with.png"
        assert stranger.status(path) == 401


_TALL = FloatRect(x=0, y=0, width=1_080, height=1_980)


def test_the_operators_map_follows_a_training(shown: Taught, browser: Browser) -> None:
    """Slots of every kind; the lease comes without a reload, with its bar and what it says."""
    fed, invite = str(shown.coordinator.folder), shown.folder / "invite.txt"
    invite.write_text(run("coordinator", "invite", fed).stdout.strip())
    with shown.operator(browser) as reader, train(shown.folder, invite, _COMES) as training:
        page = reader.page
        try:
            expect(page.locator(".slots .leased")).to_have_count(1, timeout=_LONG_MS)
            bar = page.get_by_role("progressbar", name=f"Done of {_COMES}")
            expect(bar).to_be_visible(timeout=_LONG_MS)
            expect(page.get_by_role("row", name=_COMES)).to_contain_text(f"of {STEPS}")
            for kind in ("free", "filled", "emptying", "quarantined"):
                expect(page.locator(f".slots .{kind}").first).to_be_visible()
            expect(page.locator(".slots .emptying")).to_contain_text(GONE)
            page.set_viewport_size({"width": 1_080, "height": 1_130})
            page.screenshot(path=DOCS / "web-desk.png")
            reader.check("/operator")
        finally:
            training.kill()
