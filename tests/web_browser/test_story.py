"""From an invite to a release, as the operator, three owners and a consumer go through it.

A real coordinator serves the page; owners are processes of `orthofed client` that train for some
steps on the base that ships; the consumer runs the commands that the page gives. It writes one of
the pictures of docs/web.md, test_taught.py the others.
"""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from orthofed.assets import pocket_base, pocket_concepts
from orthofed.coordinator.audit_log import entries

from ..coordinator_process import COMMAND, Coordinator, run
from ..owner_daemon import TRAINING
from .browser import Reader

pytestmark = pytest.mark.web
DOCS = Path(__file__).parents[2] / "docs"
_QUICK = TRAINING.replace("steps = 4", "steps = 2").replace("batch = 4", "batch = 1")
OWNERS = ("anna-k7", "bodo-x4", "cleo-m6")
TITLE = 'Anna & her <b>"hat"</b>'
_LONG_MS = 240_000
PUBLIC = ("/", "/concepts", "/picker", "/releases", "/ledger", "/ledger/0", "/privacy", "/operator")
DESK = (
    *("/operator", "/operator/contributions", "/operator/evaluation", "/operator/traffic"),
    *("/operator/releases", "/operator/invites", "/operator/backups"),
)


@dataclass
class Story:
    """The coordinator, its page, the operator's window."""

    coordinator: Coordinator
    address: str
    operator: Reader
    folder: Path
    owners: ExitStack

    def link(self) -> str:
        """Return a fresh login link."""
        return run("coordinator", "login-link", str(self.coordinator.folder)).stdout.strip()

    def states(self) -> dict[str, str]:
        """Return how each contribution stands, by its concept."""
        words = ("coordinator", "contributions", str(self.coordinator.folder), "--json")
        listed = json.loads(run(*words).stdout)["contributions"]
        return {each["concept"]: each["state"] for each in listed}

    def train(self, name: str, invite: Path, *options: str) -> "subprocess.Popen[str]":
        """Join, then start a training."""
        home = str(self.folder / name)
        run("client", "join", "--invite", str(invite), "--home", home)
        words = ["client", "train", "--concept", name, "--class-noun", "person", "--yes"]
        images = self.folder / "images" / name
        images.mkdir(parents=True)
        for path in sorted((pocket_concepts() / name).iterdir())[:12]:  # six, with captions
            shutil.copy(path, images)
        words += ["--images", str(images), "--base", str(pocket_base())]
        config = self.folder / "quick.toml"
        config.write_text(_QUICK)
        words += ["--home", home, "--config", str(config), "--device", "cpu", *options]
        started = subprocess.Popen(
            [*COMMAND, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.owners.enter_context(started)
        self.owners.callback(started.kill)
        return started


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Story]:
    """Found a federation whose members' first contributions wait for the operator, and log in."""
    folder = tmp_path_factory.mktemp("story")
    found = Coordinator.found(folder / "fed", pocket_base(), "--rank", "8", "--ttl", "60")
    settings = found.folder / "coordinator.toml"
    text = settings.read_text().replace("approve_first = false", "approve_first = true")
    settings.write_text(text.replace('backups = ""', f'backups = "{folder / "backups"}"'))
    with found as coordinator:
        coordinator.start("--web", "127.0.0.1:0")
        address = coordinator.said["page"]
        with Reader(browser, address) as operator, ExitStack() as owners:
            made = Story(coordinator, address, operator, folder, owners)
            operator.page.goto(made.link())
            operator.page.get_by_role("button", name="Log in").click()
            expect(operator.page.get_by_role("heading", name="Overview")).to_be_visible()
            yield made


def _end(training: "subprocess.Popen[str]") -> None:
    """Wait until a training has sent what it learnt."""
    said, _ = training.communicate(timeout=_LONG_MS / 1000)
    assert training.returncode == 0, said


def test_before_anybody_came_each_page_says_what_comes_next(story, browser):
    """No release, no lease, an empty queue: words and a next step, and nothing that axe minds."""
    with Reader(browser, story.address) as reader:
        expect(reader.open("/").get_by_text("No release yet")).to_be_visible()
        for path in PUBLIC[:-1]:
            reader.check(path)
    for path in DESK:
        story.operator.check(path)
    expect(story.operator.open("/operator").get_by_text("Nobody trains right now")).to_be_visible()


def test_from_an_invite_to_contributions_in_quarantine(story):
    """The page makes the invite; three owners train; the map shows it without a reload."""
    page = story.operator.open("/operator/invites")
    page.get_by_label("Members it lets in").fill("3")
    page.get_by_role("button", name="Make an invite").click()
    invite = story.folder / "invite.txt"
    invite.write_text(page.locator("#command-invite").inner_text())

    page = story.operator.open("/operator")
    first = story.train(OWNERS[0], invite, "--pictures", "--title", TITLE)
    expect(page.locator(".slots .leased")).to_have_count(1, timeout=_LONG_MS)
    second = story.train(OWNERS[1], invite, "--pictures")
    for each in (first, second):
        _end(each)
    _end(story.train(OWNERS[2], invite))

    expect(page.locator(".slots .quarantined")).to_have_count(3, timeout=30_000)
    expect(page.get_by_text("3 contributions in quarantine")).to_be_visible()
    assert set(story.states().values()) == {"quarantined"}


def test_the_operator_looks_approves_and_rejects(story):
    """Evidence first; two get in, one does not, and its owner reads why."""
    page = story.operator.open("/operator/contributions")
    page.get_by_role("link", name="bodo-x4", exact=True).click()
    expect(page.get_by_role("heading", name="What was measured")).to_be_visible()
    story.operator.check(page.url.removeprefix(story.address))
    page.get_by_role("button", name="Approve for the next release").click()
    page.get_by_role("link", name="anna-k7", exact=True).click()
    page.get_by_role("button", name="Approve for the next release").click()
    page.get_by_role("link", name="cleo-m6", exact=True).click()
    page.get_by_label("What its owner is told").fill("it is no <hat>")
    page.get_by_role("button", name="Reject for good").click()

    expect(page.get_by_text("The queue is empty")).to_be_visible()
    assert story.states() == {
        "anna-k7": "accepted",
        "bodo-x4": "accepted",
        "cleo-m6": "rejected",
    }
    home = str(story.folder / "cleo-m6")
    assert "it is no <hat>" in run("client", "status", "--home", home).stdout
    acts = [(each.who, each.op) for each in entries(story.coordinator.folder / "data/audit.log")]
    by = next(who for who, op in acts if op == "approve")
    assert by.endswith(", by the page")
    assert [op for who, op in acts if who == by and op != "login"] == [
        *("invite", "approve", "approve", "reject")
    ]


def test_one_click_publishes_with_pictures(story):
    """The child process draws, signs and publishes; the page follows it to the end."""
    page = story.operator.open("/operator/releases")
    page.get_by_label("With a sample picture of each concept").check()
    page.get_by_role("button", name="Publish").click()

    expect(page.locator(".tag.ok")).to_have_text("done", timeout=_LONG_MS)
    expect(page.get_by_role("link", name="release 1")).to_be_visible()


def test_readers_find_the_release_on_every_page(story, browser):
    """Concepts with samples, files with hashes, and nothing that axe minds on any page."""
    with Reader(browser, story.address) as reader:
        page = reader.open("/")
        expect(page.get_by_role("img", name="Sample of anna-k7")).to_be_visible()
        assert page.get_by_role("img", name="Sample of anna-k7").evaluate("i => i.naturalWidth") > 1
        expect(page.get_by_text(TITLE)).to_be_visible()
        for path in (*PUBLIC[:-1], "/releases/1"):
            reader.check(path)
    for path in DESK:
        story.operator.check(path)


def test_the_picker_answers_at_each_change_and_its_command_runs(story, browser):
    """A tick, a weight: the command is there at once, and pulls what was chosen."""
    with Reader(browser, story.address) as reader:
        page = reader.open("/picker")
        expect(page.get_by_text("Nothing is chosen")).to_be_visible()
        page.get_by_role("checkbox", name="anna-k7").check()
        page.get_by_label("anna-k7", exact=True).fill("0.5")
        page.get_by_label("anna-k7", exact=True).press("Tab")
        expect(page.locator("#command-picked")).to_contain_text("anna-k7=0.5")
        command = shlex.split(page.locator("#command-picked").inner_text())
        reader.check(page.url.removeprefix(story.address))

    assert command[:2] == ["orthofed", "pull"]
    command[command.index("-o") + 1] = str(story.folder / "picked")
    said = json.loads(run(*command[1:], "--home", str(story.folder / "reader"), "--json").stdout)
    verified = run("verify", str(story.folder / "picked"), "--json")
    assert "anna-k7" in json.dumps(said)
    assert json.loads(verified.stdout)["verified"] is True


def test_the_browser_checks_a_proof_and_says_no_to_a_changed_one(story, browser):
    """The leaf of the release; then another leaf's bytes, a changed path, root and signature."""
    with Reader(browser, story.address) as reader:
        page = reader.open("/releases/1")
        page.get_by_role("link", name="leaf").first.click()
        page.get_by_role("button", name="Check this proof").click()
        verdict = page.locator("#verdict")
        expect(verdict).to_contain_text("Yes.")
        expect(verdict).to_contain_text("key signed that root")
        page.screenshot(path=DOCS / "web-proof.png")
        reader.check(page.url.removeprefix(story.address))

        for element, says in (
            ("#body", "leads to another root"),
            ("#hashes li:first-child code", "leads to another root"),
            ("#root", "leads to another root"),
            ("#note", "not signed by the ledger's key"),
            ("#key", "not signed by the ledger's key"),
        ):
            page.reload()
            page.locator(element).evaluate(_TAMPER)
            page.get_by_role("button", name="Check this proof").click()
            expect(verdict).to_contain_text("No: ")
            expect(verdict).to_contain_text(says)
        page.reload()
        page.locator("#note").evaluate(
            "e => { e.textContent = e.textContent.replace(/\\n/, '\\n1'); }"
        )
        page.get_by_role("button", name="Check this proof").click()
        expect(verdict).to_contain_text("No: the checkpoint speaks of another root")
        page.reload()
        page.locator("#hashes li:last-child").evaluate("e => e.remove()")
        page.get_by_role("button", name="Check this proof").click()
        expect(verdict).to_contain_text("No: a hash too few")


_TAMPER = """e => {
  const text = e.textContent, at = text.search(/[0-9][^0-9]*[0-9]/);
  e.textContent = text.slice(0, at) + (text[at] === "1" ? "2" : "1") + text.slice(at + 1);
}"""


def test_a_backup_is_taken_on_the_page(story):
    """One click; the folder is whole by its own manifest."""
    page = story.operator.open("/operator/backups")
    page.get_by_role("button", name="Take a backup").click()

    expect(page.get_by_role("cell", name="whole", exact=True)).to_be_visible(timeout=_LONG_MS)
    story.operator.check("/operator/backups")
    (made,) = (story.folder / "backups").iterdir()
    assert json.loads((made / "backup.json").read_bytes())["size"] > 0


def test_everything_reads_without_javascript(story, browser):
    """A window without scripts: every page, the picker's command, a login, an act, a logout."""
    with Reader(browser, story.address, java_script_enabled=False) as reader:
        for path in (*PUBLIC[:-1], "/releases/1"):
            expect(reader.open(path).get_by_role("heading", level=1)).to_be_visible()
        page = reader.open("/picker")
        page.get_by_role("checkbox", name="bodo-x4").check()
        page.get_by_role("button", name="Show the command").click()
        expect(page.locator("#command-picked")).to_contain_text("--weight bodo-x4=1 ")
        page.goto(story.link())
        page.get_by_role("button", name="Log in").click()
        reader.open("/operator/invites").get_by_role("button", name="Make an invite").click()
        expect(page.locator("#command-invite")).to_contain_text("ofi1:")
        page.get_by_role("button", name="Log out").click()
        assert reader.status("/operator") == 401


def test_the_keyboard_reaches_what_there_is(story, browser):
    """The first stop skips to the content; the focus is seen; a form is sent without a mouse."""
    with Reader(browser, story.address) as reader:
        page = reader.open("/concepts")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        page.keyboard.press("Tab")
        field = page.get_by_label("Name or trigger")
        expect(field).to_be_focused()
        assert field.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
        page.keyboard.type("bodo")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_have_text("1 concept with “bodo”.")


def test_bad_logins_are_told_so_in_the_browser(story, browser):
    """A link that was used, one that is nonsense, a cookie that was forged."""
    link = story.link()
    with Reader(browser, story.address) as one, Reader(browser, story.address) as two:
        one.page.goto(link)
        two.page.goto(link)
        one.page.get_by_role("button", name="Log in").click()
        expect(one.page.get_by_role("heading", name="Overview")).to_be_visible()
        two.page.get_by_role("button", name="Log in").click()
        expect(two.page.get_by_text("A link works once and for ten minutes.")).to_be_visible()
        two.page.context.add_cookies(
            [{"name": "orthofed", "value": "forged.signature", "url": story.address}]
        )
        assert two.status("/operator") == 401
        expect(two.page.get_by_text("There is no password.")).to_be_visible()
        two.check("/operator/login?word=nonsense")
        for _ in range(6):
            two.page.goto(f"{story.address}/operator/login?word=nonsense")
            two.page.get_by_role("button", name="Log in").click()
        expect(two.page.get_by_text("Wait a minute and try again.")).to_be_visible()
