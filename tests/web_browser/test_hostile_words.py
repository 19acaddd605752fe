"""Hostile names by every real way that they could come, and what the page then shows.

By the calls: refused, and the page is as it was. By texts that people may choose (titles, the
base's name and hint, the operator's reasons): shown, and nothing but text. By bytes that somebody
else wrote into the files of a stopped coordinator: it does not start, or shows text all the same.
"""

import base64
import contextlib
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from playwright.sync_api import expect

from orthofed.assets import pocket_base
from orthofed.coordinator import contribution_rows
from orthofed.coordinator.folder import DataFolder
from orthofed.core.errors import OrthoFedError
from orthofed.core.names import check_title

from ..coordinator_process import Coordinator, run
from ..paged import Paged, paged
from ..serving import founded, running
from .browser import PHONE, Reader

pytestmark = pytest.mark.web
MARKUP = "<script>document.title='broken'</script>"
IMAGE = '"><img src=/x onerror="document.title=1">'
BIDI = "\u202egnp.exe\u2066\u200f"
HOSTILE = (
    MARKUP,
    IMAGE,
    "</title><style>*{display:none}</style>",
    BIDI * 1_000,
    BIDI,
    "x" * 10_000,
    "x" * 80,
    "\u05e9\u05dc\u05d5\u05dd",
    "Z\u0351\u036b\u0343\u036a\u0302\u036b" * 11,
    "javascript:alert(1)",
    "{{ 7 * 7 }}",
    "anna\u0000k7",
)
PATHS = ("/", "/concepts", "/picker", "/releases", "/releases/1", "/ledger", "/ledger/3")
DESK = ("/operator", "/operator/contributions", "/operator/releases")
HINT = f"{MARKUP} {IMAGE} https://evil.example/ " + "z" * 800
REASON = f"it is no <hat> {BIDI} {IMAGE} " + "y" * 400


def _fits(title: str) -> bool:
    with contextlib.suppress(OrthoFedError):
        return bool(check_title(title))
    return False


TITLES = tuple(each for each in HOSTILE if _fits(each))
"""What an owner may really call a concept."""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paged]:
    """Serve a federation whose every free text is as hostile as may be, after one release."""
    folder = founded(tmp_path_factory.mktemp("hostile"), rank=2)
    settings = replace(folder.settings(), base_hint=HINT)
    folder.settings_file.write_text(settings.to_toml(), "utf-8")
    with running(folder) as own, paged(own) as page:
        member = own.member()
        for number, title in enumerate(TITLES):
            name = f"plain-{number}"
            member.contribute(member.pack(member.lease(name, (name,)), seed=number, title=title))
        own.release()
        own.desk.ask("reject", {"leaf": 3, "why": "no"})
        own.house.board.run(  # as an earlier version kept it, which checked no reason
            lambda turn: contribution_rows.set_state(turn.db, 3, "rejected", why=REASON)
        )
        own.house.heads.write()
        yield page


def login(page: Paged, reader: Reader) -> None:
    """Let the window in."""
    reader.page.goto(str(page.logins.link("anna")["url"]))
    reader.page.get_by_role("button", name="Log in").click()
    expect(reader.page.get_by_role("heading", name="Overview")).to_be_visible()


def looked(page: Paged) -> dict[str, str]:
    """Return every public page, and what the operator's list of contributions says."""
    said = {path: page.get(path).text for path in PATHS}
    return said | {"listed": json.dumps(page.own.desk.ask("contributions", {}))}


def test_no_call_takes_a_hostile_name_and_the_page_is_as_it_was(shown):
    """As concept, trigger, title or licence, each by the real call: refused before it is kept."""
    own = shown.own
    member = own.member()
    lease = member.lease("honest", ("honest-k7",))
    own.house.heads.write()
    before = looked(shown)

    for text in HOSTILE:
        own.clock.moved_s += 5
        for concept, triggers in ((text, ("other-k7",)), ("other", (text,))):
            with pytest.raises(OrthoFedError):
                own.member().lease(concept, triggers)
        if text not in TITLES:
            with pytest.raises(OrthoFedError):
                member.begin(member.pack(lease, title=text))
        with pytest.raises(OrthoFedError):
            member.begin(member.pack(lease, licence=text))
        for changed in ({"concept": text}, {"triggers": (text,)}):
            with pytest.raises(OrthoFedError):
                member.begin(member.pack(lease, **changed))
    own.house.heads.write()

    assert looked(shown) == before
    assert len(TITLES) >= 6
    assert len(HOSTILE) - len(TITLES) >= 4


def test_no_federation_is_founded_with_a_hostile_name(tmp_path):
    """The name stands in every title of the page, the base's on the first: told at once."""
    base = pocket_base()
    for text in (MARKUP, BIDI, "x" * 10_000):
        for words in (("--name", text), ("--name", "peeps", "--base-name", text)):
            fed = tmp_path / "fed"
            said = run("coordinator", "init", str(fed), "--base", str(base), *words, check=False)
            assert said.returncode == 2, said.stderr
            assert not (fed / "coordinator.toml").exists()


def test_free_texts_stay_text_and_inside_the_page(shown, browser):
    """Nothing runs, nothing turns the writing, nothing is wider than a phone; axe minds nothing."""
    with Reader(browser, shown.address, viewport=PHONE) as reader:
        reader.page.on("dialog", lambda dialog: reader.faults.append(dialog.message))
        for path in PATHS:
            reader.check(path)
            assert reader.page.title().endswith("wren-fed")
            content = reader.page.content()
            assert not set(BIDI) & {"\u202e", "\u2066"} & set(content)
            assert reader.page.locator("main script, main style, main img[src='/x']").count() == 0
        page = reader.open("/concepts")
        for title in (MARKUP, IMAGE, "{{ 7 * 7 }}", "javascript:alert(1)"):
            expect(page.get_by_text(title, exact=True).first).to_be_visible()
        heights = page.locator(".card").evaluate_all("c => c.map(e => e.offsetHeight)")
        assert max(heights) < 800
        hint = reader.open("/").get_by_text("https://evil.example/")
        expect(hint).to_be_visible()
        assert hint.locator("a[href*=evil]").count() == 0  # a text for a person, no link


def test_the_operators_own_words_stay_text(shown, browser):
    """A reason as it was typed, in the list, on the contribution's page, and in the audit log's."""
    with Reader(browser, shown.address) as reader:
        login(shown, reader)
        for path in (*DESK, "/operator/contributions/3", "/operator/contributions/5"):
            reader.check(path)
            assert "\u202e" not in reader.page.content()
        page = reader.open("/operator/contributions/3")
        expect(page.get_by_text("it is no <hat>")).to_be_visible()
        page = reader.open("/operator/contributions/5")
        page.get_by_label("What its owner is told").fill(f"{MARKUP} {BIDI}")
        page.get_by_role("button", name="Reject for good").click()
        reader.check("/operator/contributions/5")
        expect(page.get_by_text(MARKUP)).to_be_visible()


def test_doctor_notices_what_somebody_wrote_into_the_database(tmp_path):
    """The coordinator ended properly, then a row was changed: exit code 4."""
    with Coordinator.found(tmp_path / "fed", pocket_base(), "--rank", "8") as coordinator:
        coordinator.stop()
        with closing(sqlite3.connect(DataFolder(coordinator.folder).database)) as db, db:
            db.execute("UPDATE slot SET client = ? WHERE id = 0", (MARKUP,))

        said = run("doctor", str(coordinator.folder), check=False)

    assert said.returncode == 4
    assert "is not what it was when the coordinator ended" in said.stdout + said.stderr


@pytest.mark.parametrize("text", [MARKUP, BIDI * 1_000, "x" * 10_000], ids=["html", "bidi", "long"])
def test_a_name_in_the_files_of_a_stopped_coordinator_is_text_or_refused(text, tmp_path, browser):
    """Rows are text to the operator whatever they hold; readers see what was signed, or nothing."""
    folder = founded(tmp_path, rank=2)
    with running(folder) as own:
        member = own.member()
        member.contribute(member.pack(member.lease("anna", ("anna-k7",)), seed=1))
        own.release()
        member.lease("bert", ("bert-k7",))
    folder.database_sum.unlink()  # or the start would refuse what was written by hand
    with closing(sqlite3.connect(folder.database)) as db, db:
        db.execute("UPDATE lease SET concept = ?, triggers = ?", (text, text.replace(",", "")))
        db.execute("UPDATE contribution SET why = ?", (text,))

    with running(folder) as own, paged(own) as shown, Reader(browser, shown.address) as reader:
        login(shown, reader)
        for path in ("/operator", "/operator/contributions", "/operator/contributions/3"):
            reader.check(path)
            assert "\u202e" not in reader.page.content()
            assert len(reader.page.locator("main").inner_text()) < 6_000
        for path in PATHS:
            assert reader.status(path) in (200, 404)
            assert "anna-k7" in reader.page.content() or path in (
                "/releases",
                "/ledger",
                "/ledger/3",
            )

        info = folder.releases / "1" / "info.json"
        info.chmod(0o644)
        said = json.loads(info.read_bytes())
        said["concepts"][0] |= {"concept": text, "title": base64.b64encode(text.encode()).decode()}
        info.write_text(json.dumps(said))
    with running(folder) as own, paged(own) as shown, Reader(browser, shown.address) as reader:
        for path in ("/", "/concepts", "/picker", "/releases/1"):
            status = reader.status(path)
            assert status == 503, path
            expect(
                reader.page.get_by_text("Info.json of release 1 is not what was signed")
            ).to_be_visible()
            assert re.sub(r"\s", "", text)[:20] not in reader.page.content()
