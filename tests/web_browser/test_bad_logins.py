"""Every way not to get in, as a person meets it in a browser: told so, and let in nowhere.

The coordinator runs in this process, so that its clock can be moved.
"""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from orthofed.coordinator.logins import TTL_S
from orthofed.web.sessions import IDLE_S, LIFE_S

from ..paged import Paged, paged
from ..serving import founded, running
from .browser import Reader

pytestmark = pytest.mark.web
DESK = ("/operator", "/operator/contributions", "/operator/invites", "/operator/backups")
SPENT = "A link works once and for ten minutes."


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paged]:
    """Serve an empty federation."""
    with running(founded(tmp_path_factory.mktemp("door"))) as own, paged(own) as page:
        yield page


@pytest.fixture
def reader(shown: Paged, browser: Browser) -> Iterator[Reader]:
    """Open a window of somebody's."""
    shown.own.clock.moved_s += 120  # whoever guessed before has waited
    with Reader(browser, shown.address) as found:
        yield found


def link(shown: Paged) -> str:
    """Return a fresh link."""
    return str(shown.logins.link("anna")["url"])


def press(reader: Reader, url: str) -> Page:
    """Follow a link and press its button."""
    reader.page.goto(url)
    reader.page.get_by_role("button", name="Log in").click()
    return reader.page


def is_out(reader: Reader) -> None:
    """Find that no page of the operator's opens, and that each says how to get in."""
    for path in DESK:
        assert reader.status(path) == 401
        expect(reader.page.get_by_text("There is no password.")).to_be_visible()
        expect(reader.page.get_by_role("navigation", name="Operator's pages")).to_have_count(0)


def test_a_link_that_was_used_lets_nobody_else_in(shown, reader, browser):
    """In another window; the first one stays in, and the page of the refusal has no fault."""
    url = link(shown)
    with Reader(browser, shown.address) as first:
        expect(press(first, url).get_by_role("heading", name="Overview")).to_be_visible()

        expect(press(reader, url).get_by_text(SPENT)).to_be_visible()

        is_out(reader)
        assert first.status("/operator") == 200
    reader.check("/operator/login?word=nonsense")


def test_a_link_that_is_ten_minutes_old_is_told_so(shown, reader):
    """One that is a second younger works."""
    late, fresh = link(shown), None
    shown.own.clock.moved_s += TTL_S + 1
    page = press(reader, late)
    expect(page.get_by_text(SPENT)).to_be_visible()
    expect(page.get_by_text("orthofed coordinator login-link")).to_be_visible()
    is_out(reader)

    fresh = link(shown)
    shown.own.clock.moved_s += TTL_S - 5
    expect(press(reader, fresh).get_by_role("heading", name="Overview")).to_be_visible()


def test_of_nine_links_the_oldest_is_gone(shown, reader):
    """Eight may wait."""
    urls = [link(shown) for _ in range(9)]

    expect(press(reader, urls[0]).get_by_text(SPENT)).to_be_visible()

    expect(press(reader, urls[8]).get_by_role("heading", name="Overview")).to_be_visible()


@pytest.mark.parametrize(
    "word",
    ["nonsense", "%00", "<script>document.title=1</script>", "x" * 6_000, "\u202e\u05d0"],
    ids=["short", "zero", "markup", "long", "bidi"],
)
def test_a_word_that_was_never_given_lets_nobody_in(word, shown, reader):
    """Whatever stands behind `?word=`; the page shows none of it."""
    page = press(reader, f"{shown.address}/operator/login?word={word}")

    expect(page.get_by_role("heading", name="That did not work")).to_be_visible()
    assert page.title().startswith("That did not work")
    is_out(reader)


def test_the_button_without_a_link_is_not_there(reader):
    """An address without a word, or with an empty one, says how to get a link."""
    for path in ("/operator/login", "/operator/login?word="):
        page = reader.open(path)
        expect(page.get_by_role("button", name="Log in")).to_have_count(0)
        expect(page.get_by_text("There is no password.")).to_be_visible()
    reader.check("/operator/login")


def test_a_session_ends_by_an_hour_of_silence_and_after_twelve_hours(shown, reader):
    """An open page finds out by itself; the next click says how to get in."""
    expect(press(reader, link(shown)).get_by_role("heading", name="Overview")).to_be_visible()
    shown.own.clock.moved_s += IDLE_S + 1
    is_out(reader)

    press(reader, link(shown))
    for _ in range(int(LIFE_S // (IDLE_S / 2))):  # never silent
        assert reader.status("/operator") == 200
        shown.own.clock.moved_s += IDLE_S / 2
    shown.own.clock.moved_s += 60
    is_out(reader)


def test_a_cookie_of_before_the_logout_or_that_was_forged_is_none(shown, reader):
    """The cookie that a thief kept, and one of his own making."""
    press(reader, link(shown))
    (kept,) = reader.page.context.cookies()
    assert (kept["httpOnly"], kept["sameSite"]) == (True, "Strict")
    reader.page.get_by_role("button", name="Log out").click()
    name = str(kept["name"])
    for value in (
        str(kept["value"]),
        "forged.signature",
        str(kept["value"])[::-1],
        "",
        "x" * 3_000,
    ):
        reader.page.context.clear_cookies()
        reader.page.context.add_cookies([{"name": name, "value": value, "url": shown.address}])
        is_out(reader)


def test_a_form_of_before_the_session_ended_changes_nothing(shown, reader):
    """The page stood open over night: the button is answered with what to do, and no invite is."""
    page = press(reader, link(shown))
    reader.open("/operator/invites")
    before = len(shown.own.desk.ask("invites", {})["invites"])
    shown.own.clock.moved_s += IDLE_S + 1

    page.get_by_role("button", name="Make an invite").click()

    expect(page.get_by_role("heading", name="That did not work")).to_be_visible()
    expect(page.get_by_text("Log in again.")).to_be_visible()
    assert len(shown.own.desk.ask("invites", {})["invites"]) == before


def test_who_guesses_waits_and_a_right_link_is_never_refused_for_it(shown, reader, browser):
    """After some wrong words the answer is to wait; the operator's own link works meanwhile."""
    for _ in range(8):
        press(reader, f"{shown.address}/operator/login?word=nonsense")
    expect(reader.page.get_by_text("Wait a minute and try again.")).to_be_visible()

    with Reader(browser, shown.address) as other:
        page = press(other, link(shown))
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def test_a_login_needs_no_script_and_no_mouse(shown, browser):
    """Tab, Enter."""
    with Reader(browser, shown.address, java_script_enabled=False) as reader:
        reader.page.goto(link(shown))
        reader.page.get_by_role("button", name="Log in").focus()
        reader.page.keyboard.press("Enter")
        expect(reader.page.get_by_role("heading", name="Overview")).to_be_visible()
