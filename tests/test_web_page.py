"""The page over real HTTP: what readers get, what nobody gets, and who is cut."""

import asyncio
import re
import socket
import subprocess
import sys
import time

import httpx
import pytest

from orthofed.core.errors import InputError
from orthofed.proto import methods, wire
from orthofed.web.listener import Listener
from orthofed.web.live import Full, Places, Pulse, tag
from orthofed.web.opening import opener
from orthofed.web.public_reader import PublicReader

from .coordinator_process import Coordinator, wide_base
from .paged import paged
from .serving import founded, running

PUBLIC = ("/", "/concepts", "/picker", "/releases", "/ledger", "/ledger/0", "/privacy")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Serve two released concepts, and one more that only its owner and the operator know."""
    with running(founded(tmp_path_factory.mktemp("shown"))) as own, paged(own) as page:
        anna, rex, mia = own.member(), own.member(), own.member()
        anna.contribute(anna.pack(anna.lease("anna", ("anna-k7",)), seed=1))
        rex.contribute(rex.pack(rex.lease("rex", ("rex-p2", "rex-q3")), seed=2))
        own.release()
        mia.lease("secret-mia", ("mia-b4",))
        own.house.heads.write()
        yield page


@pytest.mark.parametrize("path", PUBLIC)
def test_every_page_reads_under_a_strict_policy(path, shown):
    """200, a title, one heading of the first level, and a policy without exceptions."""
    answer = shown.get(path)

    assert answer.status_code == 200
    assert answer.text.count("<h1>") == 1
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers
    assert "set-cookie" not in answer.headers


def test_before_the_first_release_there_is_a_page_all_the_same(tmp_path):
    """A federation of an hour: no page fails for want of a release."""
    with running(founded(tmp_path)) as own, paged(own) as page:
        for path in PUBLIC:
            assert page.get(path).status_code == 200, path
        assert "No release yet" in page.get("/").text


def test_a_release_without_a_concept_has_its_pages_too(tmp_path):
    """The last one was withdrawn: every page is there, and none offers a file of a model."""
    with running(founded(tmp_path)) as own, paged(own) as page:
        anna = own.member()
        lease = anna.lease("anna", ("anna-k7",))
        leaf = anna.check(anna.contribute(anna.pack(lease, seed=1))).index
        own.release()
        anna.withdraw(lease, leaf)
        own.release()
        own.house.heads.write()

        texts = {path: page.get(path) for path in (*PUBLIC, "/releases/2")}

    assert {path: text.status_code for path, text in texts.items() if text.status_code != 200} == {}
    assert ".safetensors" not in texts["/releases/2"].text


def test_readers_see_no_more_than_the_wire_gives(shown):
    """A concept that is leased and in no release, its member and every invite: nowhere."""
    own = shown.own
    members = [each["member"] for each in own.desk.ask("members", {})["members"]]
    invites = [each["key"] for each in own.desk.ask("invites", {})["invites"]]
    leaves = [f"/ledger/{n}" for n in range(own.desk.status()["ledger_size"])]

    everything = "".join(shown.get(path).text for path in (*PUBLIC, "/releases/1", *leaves))

    assert "mia-b4" in everything, "its trigger stands in the ledger, which is public"
    assert "secret-mia" not in everything, "its concept does not"
    assert not [key for key in (*members, *invites) if key in everything]
    assert len(members) == 3


def test_the_reader_makes_no_call_that_somebody_signs():
    """The law of the public half, tried: a signed call never leaves it."""
    reader = PublicReader(lambda _: b"", lambda: "")

    with pytest.raises(AssertionError, match="unsigned calls alone"):
        reader._ask(methods.ORDERS, wire.OrdersRequest(), bytes)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nowhere", 404),
        ("/releases/9", 404),
        ("/releases/0", 404),
        ("/releases/1e3", 404),
        ("/releases/99999999999999999999999999", 404),
        ("/releases/4294967296", 404),
        ("/releases/999999999999", 404),
        ("/releases/999999999999/samples/anna.png", 404),
        ("/concepts?release=999999999999", 404),
        ("/picker?release=999999999999", 404),
        ("/ledger/999999", 404),
        ("/ledger/999999999999", 404),
        ("/ledger?at=999999999999", 200),
        ("/ledger/-1", 404),
        ("/releases/1/samples/anna.png", 404),
        ("/releases/1/samples/..%2f..%2f..%2fkeys%2fledger.pem", 404),
        ("/static/..%2fopening.py", 404),
        ("/concepts?release=7", 404),
        ("/concepts?page=-3&q=%00%e2%80%ae", 200),
        ("/ledger?at=abc", 200),
        ("/picker?c=%3Cscript%3E&w.anna=x", 200),
    ],
)
def test_what_is_not_there_is_a_page_that_says_so(shown, path, status):
    """T10: mistyped, hostile or gone: never a fault, never a file."""
    answer = shown.get(path)

    assert answer.status_code == status
    assert "PRIVATE KEY" not in answer.text
    assert "<script>" not in answer.text


def test_a_post_to_a_page_of_readers_changes_nothing(shown):
    """Readers' pages are GETs; any other method is refused."""
    for path in PUBLIC:
        assert httpx.post(f"{shown.address}{path}").status_code == 405


def test_another_name_for_this_machine_is_not_answered(shown):
    """A stranger's page that points its own name here reads nothing."""
    answer = shown.get("/", headers={"host": "evil.example"})

    assert answer.status_code == 421
    assert "wren" not in answer.text


def test_a_large_body_is_refused_before_it_is_read(shown):
    """T5: a megabyte for a form of a hundred bytes, and one of no length."""
    big = httpx.post(f"{shown.address}/", content=b"x" * (1 << 20))
    endless = httpx.post(f"{shown.address}/", content=iter([b"x" * 10]))

    assert (big.status_code, endless.status_code) == (413, 413)


def test_static_files_stay_while_their_address_stays(shown):
    """The address holds the file's hash, so a browser need not ask again."""
    link = re.search(r'href="(/static/page\.css\?v=[0-9a-f]{12})"', shown.get("/").text)
    assert link is not None

    assert "immutable" in shown.get(link[1]).headers["cache-control"]
    assert shown.get("/static/page.css").headers["cache-control"] == "no-cache"


def test_who_trickles_headers_is_cut(shown, monkeypatch):
    """T18: half a request, then silence: each connection ends, and the page answers others."""
    with monkeypatch.context() as hasty:
        hasty.setattr("orthofed.web.listener._HEADERS_S", 0.2)
        host, _, port = shown.address.removeprefix("http://").partition(":")
        slow = [socket.create_connection((host, int(port)), timeout=60) for _ in range(20)]
        cut = [_is_cut(each) for each in slow]

    assert cut == [True] * 20
    assert shown.get("/privacy").status_code == 200


def _is_cut(connection: socket.socket) -> bool:
    """Send half a request and wait for the end; True when it comes."""
    with connection:
        try:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
            return connection.recv(1) == b""
        except ConnectionError:  # it was cut before we had sent that much
            return True


def test_an_open_page_hears_of_news_and_not_what_it_is(shown):
    """A stream says `change` at once, and again when the ledger grows."""
    with httpx.stream("GET", f"{shown.address}/live", timeout=30) as stream:
        lines = stream.iter_lines()
        heard = [next(line for line in lines if line.startswith("event"))]
        shown.own.member().lease("news-concept", ("news-t4",))
        shown.own.house.heads.write()
        heard.append(next(line for line in lines if line.startswith("event")))

    assert heard == ["event: change"] * 2


def test_what_comes_between_a_page_and_its_stream_is_heard(shown):
    """The page names what it shows, and the stream that it opens begins there."""
    followed = r'data-live="(/live\?seen=([0-9a-f]{16}))"'
    before = re.search(followed, shown.get("/ledger").text)
    shown.own.member().lease("late-concept", ("late-t4",))
    shown.own.house.heads.write()
    after = re.search(followed, shown.get("/ledger").text)
    assert before is not None
    assert after is not None

    with httpx.stream("GET", f"{shown.address}{before[1]}", timeout=30) as stream:
        lines = stream.iter_lines()
        heard = [next(lines) for _ in range(4)]

    assert heard == ["retry: 3000", "", "event: change", f"id: {after[2]}"]


@pytest.mark.parametrize("seen", ["", "news of before"])
def test_a_stream_says_what_is_new_to_its_reader_and_nothing_twice(seen, monkeypatch):
    """Begun with the newest name it waits for the next; with none, or an older one, it speaks."""
    monkeypatch.setattr("orthofed.web.live._LOOK_S", 0.0)

    async def heard(seen: str, *news: str) -> list[bytes]:
        left = [*news]
        pulse = Pulse(lambda: left[0] if len(left) == 1 else left.pop(0), places := Places())
        places.take("one")
        stream = pulse.follow("one", until=lambda: len(left) == 1, seen=seen)
        return [said async for said in stream][1:]

    old, new = (f"event: change\nid: {tag(each)}\ndata: news\n\n".encode() for each in "ab")

    assert asyncio.run(heard(tag("a"), "a", "a", "b", "b", "end")) == [new]
    assert asyncio.run(heard(seen, "a", "a", "b", "b", "end")) == [old, new]


def test_there_is_an_end_to_streams():
    """T18: so many for one address, so many in all, and a place that is left is free again."""
    places = Places(most=3, each=2)
    places.take("one")
    places.take("one")
    with pytest.raises(Full):
        places.take("one")
    places.take("two")

    with pytest.raises(Full):
        places.take("three")


def test_a_page_whose_port_is_taken_says_so(shown):
    """Exit with what, why and fix, not a thread that dies."""
    with pytest.raises(InputError, match="cannot serve the page") as caught:
        Listener(shown.address.removeprefix("http://"))

    assert caught.value.code == "cannot-listen"


@pytest.mark.parametrize("url", ["ftp://x", "https://a/b", "https://a b", "javascript:alert(1)"])
def test_a_public_address_is_a_name_and_a_port(url):
    """It stands in login links, so nothing else is taken."""
    with pytest.raises(InputError, match="a page's address"):
        opener("127.0.0.1:0", url)


def test_serve_opens_the_page_and_loads_no_web_framework_without(tmp_path):
    """One command; and T26: a coordinator without a page has none of its libraries in memory."""
    code = "import sys, orthofed.coordinator.daemon; print(*sys.modules)"
    plain = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    with Coordinator.found(tmp_path / "fed", wide_base(tmp_path / "base")) as coordinator:
        coordinator.start("--web", "127.0.0.1:0")
        answer = httpx.get(coordinator.said["page"])
        began_s = time.monotonic()
        coordinator.kill()

    assert answer.status_code == 200
    assert "tiny" in answer.text
    assert time.monotonic() - began_s < 60
    assert not {"starlette", "uvicorn", "jinja2", "itsdangerous"} & set(plain)
