"""The operator's pages over real HTTP: who gets in, what is done, and who is kept out."""

import re
import time
from dataclasses import replace

import httpx
import pytest

from orthofed.coordinator.audit_log import AuditLog, entries
from orthofed.coordinator.clock import SystemClock
from orthofed.core.errors import InputError, Refused
from orthofed.proto import methods, wire
from orthofed.web.jobs import Jobs
from orthofed.web.operator_facts import JobFacts
from orthofed.web.operator_reader import OperatorReader
from orthofed.web.sessions import IDLE_S, LIFE_S, Sessions

from .paged import Paged, paged
from .serving import ANYTHING, FastFs, founded, running
from .test_corrective import again, taught
from .test_retention_gate import GATES, Owner

pytestmark = pytest.mark.long

LOOKS = (
    *("/operator", "/operator/contributions", "/operator/evaluation", "/operator/traffic"),
    *("/operator/releases", "/operator/invites", "/operator/backups", "/operator/live"),
)
ACCEPTED, WAITS = 4, 5
ACTS = (
    *(f"/operator/contributions/{WAITS}/approve", f"/operator/contributions/{WAITS}/reject"),
    *("/operator/releases", "/operator/invites", "/operator/backups", "/operator/logout"),
)


@pytest.fixture
def page(tmp_path):
    """Serve a federation with two contributions and a lease.

    The gates put anna's into quarantine: on rex's trigger it undoes half of what rex does.
    """
    with running(founded(tmp_path, policy=GATES)) as own, paged(own) as shown:
        anna, rex, mia = Owner(own, "anna"), Owner(own, "rex"), own.member()
        assert (rex.send(), anna.acting_on(rex, -0.5).send()) == (ACCEPTED, WAITS)
        mia.lease("mia", ("mia-b4",))
        yield shown


@pytest.fixture
def still(page, monkeypatch):
    """Stop the clock that buckets are filled by: a slow machine would fill them."""
    now_s = page.own.clock.monotonic_s()
    monkeypatch.setattr(page.own.clock, "monotonic_s", lambda: now_s)


def states(page: Paged) -> dict[int, str]:
    """Return how each contribution stands."""
    listed = page.own.desk.ask("contributions", {})["contributions"]
    return {each["leaf"]: each["state"] for each in listed}


def acts(page: Paged) -> list[tuple[str, str, str]]:
    """Return who did what and what came of it, by the audit log."""
    found = list(entries(page.own.folder.audit_log))
    said = {each.of: each.said for each in found if each.of}
    return [(each.who, each.op, said[each.n]) for each in found if not each.of]


def word(page: Paged) -> str:
    """Return the word of a fresh login link."""
    return str(page.logins.link("anna")["url"]).partition("word=")[2]


def test_nothing_behind_the_login_answers_without_one(page):
    """No page, no stream and no act; each says how to get in or that one is out."""
    for path in (*LOOKS, f"/operator/contributions/{WAITS}"):
        answer = page.get(path)
        assert answer.status_code == 401, path
        assert "mia" not in answer.text
    for path in ACTS:
        assert page.client().post(path, data={"why": "x"}).status_code == 403, path
    assert states(page) == {ACCEPTED: "accepted", WAITS: "quarantined"}


def test_a_login_link_opens_one_session_and_is_spent(page):
    """Looking at it spends nothing; the button does, and a second press is refused."""
    one, two, link = page.client(), page.client(), word(page)

    looked = [one.get(f"/operator/login?word={link}") for _ in range(2)]
    first = one.post("/operator/login", data={"word": link})
    second = two.post("/operator/login", data={"word": link})

    assert [each.status_code for each in looked] == [200, 200]
    assert first.status_code == 303
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" not in cookie, "plain HTTP on loopback"
    assert one.get("/operator").status_code == 200
    assert second.status_code == 403
    assert "works once" in second.text
    assert acts(page) == [
        ("anna, by the page", "login", "ok"),
        ("nobody, by the page", "login", "bad-login"),
    ]


def test_a_login_link_is_over_after_ten_minutes(page):
    """A link that was mailed and forgotten."""
    link = word(page)

    page.own.clock.moved_s = 601

    assert page.client().post("/operator/login", data={"word": link}).status_code == 403


def test_of_many_login_links_the_oldest_go(page):
    """Nine are asked for, eight wait."""
    links = [word(page) for _ in range(9)]

    answers = [page.client().post("/operator/login", data={"word": w}) for w in links]

    assert [each.status_code for each in answers] == [403, *[303] * 8]


@pytest.mark.usefixtures("still")
def test_guesses_are_limited_and_do_not_keep_the_operator_out(page):
    """T1: a dozen wrong words: five are looked at, and the right one gets in all the same."""
    client = page.client()
    codes = [
        client.post("/operator/login", data={"word": f"guess-{n}"}).status_code for n in range(12)
    ]

    assert codes == [403] * 5 + [429] * 7
    assert client.post("/operator/login", data={"word": word(page)}).status_code == 303
    assert len(acts(page)) == 6, "what is refused by the rate leaves no line"


def test_a_forged_cookie_opens_nothing(page):
    """Another key's signature, a changed id, a cut one, nonsense."""
    good = page.operator().client.cookies["orthofed"]
    name, dot, signature = good.rpartition(".")
    forged = Sessions().open("anna", page.own.clock.monotonic_s())

    for cookie in (
        forged,
        f"{name}.{'A' * len(signature)}",
        f"x{good}",
        f"{'B' if name.startswith('A') else 'A'}{name[1:]}{dot}{signature}",
        name,
        "",
        "\u00e9.x",
    ):
        answer = page.get("/operator", headers={"cookie": f"orthofed={cookie}".encode()})
        assert answer.status_code == 401, cookie
    assert page.get("/operator", headers={"cookie": f"orthofed={good}"}).status_code == 200


def test_a_session_ends_by_logout_and_a_kept_cookie_is_worth_nothing(page):
    """The cookie from before the logout, sent again."""
    operator = page.operator()
    kept = operator.client.cookies["orthofed"]

    answer = operator.post("/operator/logout")

    assert answer.status_code == 303
    assert page.get("/operator", headers={"cookie": f"orthofed={kept}"}).status_code == 401
    assert acts(page)[-1] == ("anna, by the page", "logout", "ok")


def test_a_session_ends_by_silence_and_by_age():
    """An hour without a request, or twelve hours with one a minute; a stream is no request."""
    sessions = Sessions()
    silent, busy = sessions.open("anna", 0.0), sessions.open("bodo", 0.0)
    for minute in range(int(LIFE_S) // 60):
        assert sessions.find(busy, minute * 60.0) is not None

    assert sessions.find(silent, IDLE_S - 1, seen=False) is not None
    assert sessions.find(silent, IDLE_S + 1) is None
    assert sessions.find(busy, LIFE_S + 1) is None


def test_the_sessions_have_an_end_in_number():
    """Of forty, the eight oldest are over."""
    sessions = Sessions()
    cookies = [sessions.open("anna", float(n)) for n in range(40)]

    assert [sessions.find(each, 41.0) is not None for each in cookies] == [False] * 8 + [True] * 32


@pytest.mark.parametrize("csrf", ["", "x", "\u00e9" * 40])
def test_a_form_without_the_sessions_word_changes_nothing(page, csrf):
    """CSRF: the cookie alone is not enough, for any act."""
    operator = page.operator()

    for path in ACTS:
        answer = operator.client.post(path, data={"csrf": csrf, "why": "x", "uses": "1"})
        assert answer.status_code == 403, path
    assert states(page)[WAITS] == "quarantined"
    assert operator.get("/operator")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_form_from_another_site_changes_nothing(page, headers):
    """Even with the right word: the browser says where it comes from."""
    operator = page.operator()
    data = {"csrf": operator.csrf}

    answer = operator.client.post(
        f"/operator/contributions/{WAITS}/approve", data=data, headers=headers
    )

    assert answer.status_code == 403
    assert states(page)[WAITS] == "quarantined"


def test_one_sessions_word_is_not_anothers(page):
    """Two operators: the form of one, sent by the other."""
    anna, bodo = page.operator(), page.operator()

    answer = anna.client.post(f"/operator/contributions/{WAITS}/approve", data={"csrf": bodo.csrf})

    assert answer.status_code == 403


@pytest.mark.usefixtures("still")
def test_posts_have_a_rate(page):
    """A script with a session: thirty at once, then one a second."""
    operator = page.operator()
    data = {"csrf": operator.csrf}

    codes = [
        operator.client.post("/operator/contributions/999/approve", data=data).status_code
        for _ in range(40)
    ]

    assert set(codes[:30]) == {404}
    assert 429 in codes[30:]


def test_the_overview_tells_of_slots_leases_and_what_waits(page):
    """Free, leased with what its client says, contributed, in quarantine; and what to look at."""
    operator = page.operator()

    text = operator.get("/operator")

    kinds = re.findall(r'<li class="(free|leased|filled|emptying|quarantined)"', text)
    assert kinds.count("quarantined") == 1
    assert kinds.count("filled") == 1
    assert kinds.count("leased") == 1
    assert len(kinds) == page.own.desk.status()["capacity"]
    assert "nothing reported yet" in text
    assert "1 contribution in quarantine" in text
    assert "No backup was ever made" in text
    assert "mia" in text


SAID = (
    (3, 0, "step 3", None),
    (120, 400, "step 120 of 400", 30),
    (399, 400, "step 399 of 400", 99),
    (401, 400, "step 400 of 400, not sent yet", 100),
    (1 << 40, 10**9, "step 1,000,000,000 of 1,000,000,000, not sent yet", 100),
    ((1 << 64) - 1, 0, "step 18,446,744,073,709,551,615", None),
)


def test_progress_is_a_bar_with_words_whatever_a_client_says(page):
    """The most that the wire carries too; a bar only where there is a whole, and pages hear."""
    member, operator = page.own.member(), page.operator()
    lease = member.lease("lila", ("lila-k7",))
    reader = OperatorReader(page.own.house, page.own.desk, lambda: None)
    for progress, total, says, value in SAID:
        before = reader.mark()
        request = wire.RenewRequest(lease.slot, lease.fence, progress, total)
        member.link.call(methods.RENEW, request, wire.RenewReply, lease.key)

        text = operator.get("/operator")
        row = text.partition('<th scope="row"><bdi>lila</bdi>')[2].partition("</tr>")[0]

        assert f">{says}<" in row
        bars = re.findall(r'<progress max="100" value="(\d+)" aria-label="Done of lila"', row)
        assert bars == ([] if value is None else [str(value)])
        assert reader.mark() != before


def test_the_map_shows_what_a_slot_holds_through_a_corrective_round(page):
    """On its way, and then in quarantine, the new contribution leaves the old one in its place."""
    operator, ana = page.operator(), page.own.member()
    settings = page.own.house.settings
    page.own.house.settings = replace(settings, admission=ANYTHING)  # random numbers may meet
    lease, old = taught(ana, "zoe", seed=7)
    new = again(ana, lease, old)
    held = r'<li class="(\w+)"(?:(?!</li>).)*zoe'

    during = operator.get("/operator")
    page.own.house.settings = replace(settings, admission=replace(GATES, embedding_percent=1))
    leaf = ana.check(ana.contribute(ana.pack(new, seed=8))).index
    after = operator.get("/operator")

    assert re.findall(held, during, re.DOTALL) == ["revising"]
    assert re.findall(held, after, re.DOTALL) == ["filled"]
    assert (states(page)[old], states(page)[leaf]) == ("accepted", "quarantined")
    assert "2 contributions in quarantine" in after


def test_evidence_stands_beside_what_is_allowed(page):
    """Figures, plots and reason of the one in quarantine."""
    text = page.operator().get(f"/operator/contributions/{WAITS}")

    listed = page.own.desk.ask("contributions", {})["contributions"]
    (figures,) = (each["figures"] for each in listed if each["leaf"] == WAITS)
    assert -60 < figures["retention_percent"] < -40
    assert f"{figures['norm_percent']:.3g} %" in text
    assert f"it does {figures['retention_percent']:.0f} %" in text
    assert text.count('<svg class="chart"') >= 2
    assert f"rex {figures['retention_percent']:.1f} %" in text, (
        "the plot says in words what it shows"
    )
    assert "Approve for the next release" in text
    for leaf in (3, 1 << 63, 10**30):
        assert page.operator().client.get(f"/operator/contributions/{leaf}").status_code == 404


def test_approve_goes_through_the_audited_desk(page):
    """The queue is empty, the ledger has the leaf, the audit log the name."""
    operator = page.operator()

    answer = operator.post(f"/operator/contributions/{WAITS}/approve")

    assert answer.status_code == 303
    assert states(page)[WAITS] == "accepted"
    assert "The queue is empty" in operator.get("/operator/contributions")
    assert acts(page)[-1] == ("anna, by the page", "approve", "ok")


def test_reject_wants_a_reason_and_its_owner_reads_it(page):
    """Without one it is refused; with one it is out, and cannot be approved any more."""
    operator = page.operator()

    empty = operator.post(f"/operator/contributions/{WAITS}/reject", why="  ")
    long = operator.post(f"/operator/contributions/{WAITS}/reject", why="x" * 1_001)
    done = operator.post(f"/operator/contributions/{WAITS}/reject", why="it cancels <b>rex</b>")
    after = operator.post(f"/operator/contributions/{WAITS}/approve")

    assert (empty.status_code, long.status_code) == (400, 400)
    assert done.status_code == 303
    assert states(page)[WAITS] == "rejected"
    shown = operator.get(f"/operator/contributions/{WAITS}")
    assert "it cancels &lt;b&gt;rex&lt;/b&gt;" in shown
    assert "<b>rex" not in shown
    assert after.status_code == 403


def test_an_invite_is_shown_once_and_works(page):
    """What the page made lets a member in; the list shows its key and never its word."""
    operator = page.operator()

    made = operator.post("/operator/invites", uses="3", days="2")
    invite = re.search(r'id="command-invite">(ofi1:[A-Za-z0-9_-]+)<', made.text)
    assert invite is not None
    page.own.house.folder.address()

    assert "3 uses" in operator.get("/operator/invites")
    assert invite[1] not in operator.get("/operator/invites")
    assert operator.post("/operator/invites", uses="-1", days="2").status_code == 400
    assert operator.post("/operator/invites", uses="999999", days="2").status_code == 400
    assert [op for _, op, _ in acts(page)].count("invite") == 2
    assert not re.search("ofi1:", page.own.folder.audit_log.read_text())


def test_retention_is_a_matrix_of_what_owners_measured(page):
    """Two releases, one concept measured in one of them, and it suffers."""
    operator = page.operator()
    assert "Nothing to measure yet" in operator.get("/operator/evaluation")
    page.own.release()

    text = operator.get("/operator/evaluation")

    assert "not measured" in text
    assert "Release 1" in text


def test_traffic_says_what_was_refused(page):
    """A refusal by its code; charts come with the second point."""
    with pytest.raises(Exception, match="name"):
        page.own.member().lease("anna", ("other-k3",))

    text = page.operator().get("/operator/traffic")

    assert "name-taken" in text
    assert "Federation.Lease" in text


def test_a_backup_without_a_folder_says_what_to_set(page):
    """No path of a browser is ever taken."""
    operator = page.operator()

    assert "No folder is set for backups" in operator.get("/operator/backups")
    assert operator.post("/operator/backups", out="/srv/x").status_code == 400


def test_a_publication_that_fails_says_why_and_who_asked(page):
    """The child finds no control socket here: its words are on the page, its end in the log."""
    operator = page.operator()

    first = operator.post("/operator/releases")
    until_s, ends = time.monotonic() + 60, "failed with exit code 1"
    while ends not in (text := operator.get("/operator/releases")) and time.monotonic() < until_s:
        time.sleep(0.2)

    assert first.status_code == 303
    assert ends in text
    assert "error: the running coordinator does not answer on its control socket" in text
    assert "why: " in text
    assert "Traceback" not in text
    assert acts(page)[-1] == ("anna, by the page", "release", "exit-1")


def test_a_child_ends_with_the_exit_code_that_a_person_would_see(tmp_path):
    """Wrong input is 2, not the 1 of every traceback."""
    clock = SystemClock()
    audit = AuditLog(tmp_path / "audit.log", fs=FastFs(), clock=clock)
    jobs = Jobs(tmp_path / "nothing", None, audit=audit, clock=clock)
    jobs.release("anna", samples=False)
    until_s = time.monotonic() + 60
    while (job := jobs.job) is not None and job.code is None and time.monotonic() < until_s:
        time.sleep(0.1)
    jobs.close()
    audit.close()

    assert job is not None
    assert job.code == 2
    assert job.lines[0].endswith("nothing is no coordinator's folder")
    assert [line.partition(":")[0] for line in job.lines] == ["error", "why", "fix"]
    assert '"exit-2"' in (tmp_path / "audit.log").read_text("utf-8")


def test_one_child_runs_at_a_time(tmp_path):
    """A second click while the first one's release is being built."""
    clock = SystemClock()
    audit = AuditLog(tmp_path / "audit.log", fs=FastFs(), clock=clock)
    jobs = Jobs(tmp_path, None, audit=audit, clock=clock)
    jobs._job = JobFacts("release", "anna", 0)

    with pytest.raises(Refused, match="a release is running"):
        jobs.release("bodo", samples=False)
    audit.close()


def test_behind_tls_the_cookie_is_for_tls_alone(tmp_path):
    """The public address is https: Secure, and the prefix that browsers hold to it."""
    with (
        running(founded(tmp_path)) as own,
        paged(own, url="https://fed.example.org") as page,
        httpx.Client(base_url=own_address(page), headers={"host": "fed.example.org"}) as client,
    ):
        link = str(page.logins.link("anna")["url"])
        answer = client.post("/operator/login", data={"word": link.partition("word=")[2]})

        assert link.startswith("https://fed.example.org/operator/login?word=")
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-orthofed=")
        assert "Secure" in cookie
        assert "Path=/" in cookie


def own_address(page: Paged) -> str:
    """Return where the page listens, behind its public address."""
    return f"http://127.0.0.1:{page.port}"


def test_a_coordinator_without_a_page_gives_no_link(tmp_path):
    """`login-link` says what to start."""
    with running(founded(tmp_path)) as own, pytest.raises(InputError) as caught:
        own.desk.ask("login-link", {"who": "anna"})

    assert caught.value.code == "no-page"


def test_the_operators_stream_ends_with_the_session(page):
    """Logged out in another window: the stream is over with its next look."""
    operator = page.operator()
    csrf = operator.csrf
    other = page.client()
    other.cookies = operator.client.cookies

    with operator.client.stream("GET", "/operator/live") as stream:
        lines = stream.iter_lines()
        heard = next(line for line in lines if line.startswith("event"))
        assert other.post("/operator/logout", data={"csrf": csrf}).status_code == 303
        rest = list(lines)

    assert heard == "event: change"
    assert "event: change" not in rest[2:]
