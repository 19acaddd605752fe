"""Pages that follow what happens, and what they miss: nothing.

A real coordinator is ended, goes on without its page, and comes back on the same port; the open
page was never loaded anew, and shows what happened meanwhile.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from ..coordinator_process import Coordinator, run, wide_base
from ..member import Member
from .browser import Reader

pytestmark = pytest.mark.web
_LONG_MS = 120_000


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    """Serve an empty federation with its page."""
    with Coordinator.found(tmp_path / "fed", wide_base(tmp_path / "base")) as found:
        found.start("--web", "127.0.0.1:0")
        yield found


def back(coordinator: Coordinator) -> None:
    """Start it again, its page where it was."""
    coordinator.start("--web", coordinator.said["page"].removeprefix("http://"))


def is_the_same(page: Page) -> bool:
    """Mark a page that stays, and tell whether it was marked before."""
    return bool(page.evaluate("[window.marked, window.marked = true][0]"))


def known(reader: Reader) -> None:
    """Take back what the browser's console says of a coordinator that is away on purpose."""
    reader.faults[:] = [said for said in reader.faults if "net::ERR_" not in said]


def test_a_page_catches_up_with_what_it_missed(coordinator: Coordinator, browser: Browser) -> None:
    """The coordinator ends, a member comes while there is no page, the page is there again."""
    with Reader(browser, coordinator.said["page"]) as reader:
        page = reader.open("/ledger")
        expect(page.get_by_role("row")).to_have_count(1 + 2)
        assert not is_the_same(page)
        address = coordinator.said["page"]
        invite = coordinator.invite()

        coordinator.kill()
        expect(page.get_by_role("status")).to_contain_text("Not connected since", timeout=_LONG_MS)
        expect(page.get_by_role("row")).to_have_count(1 + 2)
        coordinator.start()
        member = Member.joined(invite)
        member.contribute(member.pack(member.lease("anna", ("anna-k7",)), seed=1))
        coordinator.stop()
        coordinator.said["page"] = address
        back(coordinator)

        expect(page.get_by_role("row")).to_have_count(1 + 4, timeout=_LONG_MS)
        expect(page.get_by_text("anna-k7").first).to_be_visible()
        expect(page.get_by_role("status")).to_have_count(0)
        assert is_the_same(page)
        known(reader)


def test_an_operator_is_told_that_a_restart_ended_the_session(
    coordinator: Coordinator, browser: Browser
) -> None:
    """The overview stays as it was, and says so; loaded again it says how to get in."""
    with Reader(browser, coordinator.said["page"]) as reader:
        page = reader.page
        page.goto(run("coordinator", "login-link", str(coordinator.folder)).stdout.strip())
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()

        coordinator.kill()
        back(coordinator)

        expect(page.get_by_role("status")).to_contain_text("You are logged out", timeout=_LONG_MS)
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        reader.fits("/operator")
        page.reload()
        expect(page.get_by_text("There is no password.")).to_be_visible()
        known(reader)


def test_the_operator_sees_a_score_when_it_comes(
    coordinator: Coordinator, browser: Browser
) -> None:
    """What an owner measured of its concept is in the table of an open page."""
    member = Member.joined(coordinator.invite())
    member.contribute(member.pack(member.lease("anna", ("anna-k7",)), seed=1))
    run("coordinator", "release", str(coordinator.folder))
    with Reader(browser, coordinator.said["page"]) as reader:
        page = reader.page
        page.goto(run("coordinator", "login-link", str(coordinator.folder)).stdout.strip())
        page.get_by_role("button", name="Log in").click()
        page.goto(f"{coordinator.said['page']}/operator/evaluation")
        cell = page.get_by_role("row", name="anna").get_by_role("cell")
        expect(cell).to_have_text("not measured")
        assert not is_the_same(page)

        member.score("anna", 1, 90_000, 50_000, 70_000)

        expect(cell).to_have_text("0.50 suffers", timeout=_LONG_MS)
        assert is_the_same(page)


def test_nothing_is_taken_from_under_a_readers_hands(
    coordinator: Coordinator, browser: Browser
) -> None:
    """While a button has the focus the page stays; when it is left, the news is there."""
    member = Member.joined(coordinator.invite())
    with Reader(browser, coordinator.said["page"]) as reader:
        page = reader.open("/ledger")
        first = page.get_by_role("link", name="1", exact=True).first
        first.focus()
        with page.expect_event("console", timeout=_LONG_MS) as told:
            page.evaluate(_TELL)
            member.lease("anna", ("anna-k7",))

        assert told.value.text == "news"
        expect(first).to_be_focused()
        expect(page.get_by_role("row")).to_have_count(1 + 2)
        first.blur()
        expect(page.get_by_role("row")).to_have_count(1 + 3, timeout=_LONG_MS)


_TELL = """() => {
  const stream = new EventSource(document.getElementById("main").dataset.live);
  stream.addEventListener("change", () => { console.log("news"); stream.close(); });
}"""


def test_a_page_fetches_itself_once_for_each_news(
    coordinator: Coordinator, browser: Browser
) -> None:
    """The stream begins with what the page shows: when it opens there is nothing to fetch."""
    member, asked = Member.joined(coordinator.invite()), list[str]()
    with Reader(browser, coordinator.said["page"]) as reader:
        page = reader.page
        page.on("request", lambda request: asked.append(request.url))
        with page.expect_response(re.compile(r"/live\?seen=[0-9a-f]{16}$")):
            reader.open("/ledger")
        page.evaluate(_TELL.replace(".dataset.live", ".dataset.live + '0'"))
        with page.expect_event("console", timeout=_LONG_MS):
            pass  # a stream that was begun later, with another name, has spoken
        member.lease("anna", ("anna-k7",))
        expect(page.get_by_role("row")).to_have_count(1 + 3, timeout=_LONG_MS)
    assert len([url for url in asked if url.endswith("/ledger")]) == 1 + 1
