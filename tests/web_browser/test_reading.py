"""What readers and the operator read and take with them: figures, charts, copied commands.

One federation in this process, with a release, figures of owners and refused calls; its pages in a
real browser.
"""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from orthofed.core.errors import OrthoFedError

from ..paged import Paged, paged
from ..serving import founded, running
from .browser import Reader

pytestmark = pytest.mark.web
_SCRIPT = "document.title = 'broken'"
_LONG_MS = 120_000


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paged]:
    """Serve two released concepts, of which one suffers in the release, and a refused call."""
    with running(founded(tmp_path_factory.mktemp("reading"))) as own, paged(own) as page:
        anna, bodo = own.member(), own.member()
        anna.contribute(anna.pack(anna.lease("anna", ("anna-k7",)), seed=1))
        bodo.contribute(bodo.pack(bodo.lease("bodo", ("bodo-x4",)), seed=2))
        own.release()
        own.house.heads.write()
        anna.score("anna", 1, 90_000, 50_000, 70_000)
        with pytest.raises(OrthoFedError, match="name"):
            bodo.lease("anna", ("other-k3",))
        yield page


@pytest.fixture
def operator(shown: Paged, browser: Browser) -> Iterator[Reader]:
    """Open a window that is logged in."""
    with Reader(browser, shown.address) as reader:
        reader.page.goto(str(shown.logins.link("anna")["url"]))
        reader.page.get_by_role("button", name="Log in").click()
        yield reader


def value(page: Page, label: str) -> str:
    """Return a figure of a page by its label."""
    box = page.locator(".figures > div").filter(has=page.get_by_text(label, exact=True))
    return box.locator(".value").inner_text()


@pytest.mark.parametrize("path", ["/", "/picker?c=anna&w.anna=0.5", "/releases/1", "/ledger/3"])
def test_copy_puts_the_command_that_is_shown_on_the_clipboard(
    path: str, shown: Paged, browser: Browser
) -> None:
    """Each button of the page; the command is one that begins with the program's name."""
    with Reader(browser, shown.address, permissions=["clipboard-read", "clipboard-write"]) as it:
        page = it.open(path)
        buttons = page.locator("button.copy:visible")
        assert buttons.count() >= 1
        for number in range(buttons.count()):
            button = buttons.nth(number)
            text = page.locator(f"#{button.get_attribute('data-copy')}").inner_text()
            button.click()
            expect(button).to_have_text("Copied")
            assert page.evaluate("navigator.clipboard.readText()") == text
            assert text.startswith("orthofed ")


def test_where_the_clipboard_is_closed_the_command_is_selected(
    shown: Paged, browser: Browser
) -> None:
    """A browser that refuses: the reader has only to press the keys for copying."""
    with Reader(browser, shown.address) as reader:
        page = reader.open("/releases/1")
        page.evaluate(
            "void (navigator.clipboard.writeText = () => Promise.reject(Error('closed')))"
        )
        button = page.locator("button.copy:visible").first
        button.click()
        expect(button).to_have_text("Selected")
        text = page.locator(f"#{button.get_attribute('data-copy')}").inner_text()
        assert page.evaluate("getSelection().toString()") == text


def test_the_policy_runs_no_strangers_script_style_or_picture(
    shown: Paged, browser: Browser
) -> None:
    """Put into the page as a hole would put it: the browser refuses each, and asks nobody."""
    with Reader(browser, shown.address) as reader:
        page = reader.open("/")
        title = page.title()
        refused = page.evaluate(_INJECT)
        assert set(refused) == {"script-src-elem", "style-src-elem", "img-src", "connect-src"}
        assert page.title() == title
        assert page.evaluate("getComputedStyle(document.body).display") == "block"
        said = [each for each in reader.faults if "Content Security Policy" in each]
        assert len(said) >= len(refused)
        # Playwright hears of a request before the policy ends it.
        gone = [each for each in reader.faults if each == "asked https://stranger.example/x.png"]
        reader.faults[:] = [each for each in reader.faults if each not in {*said, *gone}]


_INJECT = """async () => {
  const refused = [];
  document.addEventListener("securitypolicyviolation", (e) => refused.push(e.effectiveDirective));
  const made = (tag) => document.createElement(tag);
  const put = (tag, fields) => document.body.append(Object.assign(made(tag), fields));
  put("script", { textContent: "document.title = 'broken'" });
  put("style", { textContent: "body { display: none }" });
  put("img", { src: "https://stranger.example/x.png" });
  await fetch("https://stranger.example/").catch(() => null);
  while (new Set(refused).size < 4) await new Promise((done) => setTimeout(done, 50));
  return refused;
}"""


def test_the_operator_reads_what_the_next_concept_costs(shown: Paged, operator: Reader) -> None:
    """Slots that are free, bytes of an upload and of a LoRA, room on the disk: the house's own."""
    page = operator.open("/operator")
    status = shown.own.desk.status()

    section = page.get_by_role("region", name="What the next concept costs")
    for label in ("upload", "its own LoRA", "a slot", "disk"):
        expect(section.get_by_text(label, exact=True)).to_be_visible()
    free = status["capacity"] - 2
    expect(section.get_by_text(f"of {free} free")).to_be_visible()
    assert page.locator(".slots .free").count() == free
    assert page.locator(".slots .filled").count() == 2
    assert re.fullmatch(r"[\d.,]+ [kM]?B", value(page, "upload"))


def test_the_operator_reads_what_a_release_keeps(operator: Reader) -> None:
    """A row a concept: one suffers, in words too, one was not measured."""
    page = operator.open("/operator/evaluation")

    anna = page.get_by_role("row", name="anna")
    expect(anna.get_by_role("cell")).to_have_text("0.50 suffers")
    expect(page.get_by_role("row", name="bodo").get_by_role("cell")).to_have_text("not measured")
    operator.check("/operator/evaluation")


def test_the_operator_reads_traffic_and_what_was_refused(operator: Reader) -> None:
    """Two charts once there are two points, each with words for who cannot see it."""
    page = operator.open("/operator/traffic")

    charts = page.get_by_role("img", name="the highest point is")
    expect(charts).to_have_count(2, timeout=_LONG_MS)  # the page follows: it is not loaded again
    row = page.get_by_role("row", name="Federation.Lease")
    expect(row.get_by_role("cell").first).to_have_text("name-taken")
    operator.check("/operator/traffic")
