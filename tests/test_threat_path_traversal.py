"""T10: whatever a name says, no file outside the coordinator's folder is opened, made or removed.

Each string field of each call gets hostile strings; who sends them holds valid keys, so that the
field is the first thing that can be refused. What the process does to files is listened to.
"""

import contextlib
import itertools
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orthofed.core.document import parse, sign
from orthofed.core.errors import OrthoFedError, Refused, VerificationFailed
from orthofed.proto import methods, wire

from .besieged import Besieged, besieged
from .forked import copied, founded
from .member import Leased, Member
from .opened import opened, outside
from .seeded import Bug

ROOT = Path(__file__).parent.parent
PARTS = ("..", ".", "", "~", "etc", "passwd", "keys", "ledger.key", "data", "state.db", "C:", "CON")
JOINS = ("/", "//", "/./", "\\", "%2f", "\u2215", "\uff0f", ":", "\0", "/\0")
HEADS = (
    "",
    "/",
    "../",
    "../../",
    "../../../../../../../../",
    "..\\",
    "file://",
    "\\\\host\\",
    "./",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = founded(tmp_path_factory.mktemp("paths"), slots=64, kib=4)
    with besieged(folder) as siege:
        member = siege.member()
        member.contribute(member.pack(member.lease("wren", ("wren-k7",))))
        siege.publish()
    return folder


@pytest.fixture
def siege(made, tmp_path):
    with besieged(copied(made, tmp_path / "fed")) as opened_house:
        yield opened_house


def hostile(num: int, seed: int) -> Iterator[str]:
    """Give strings that have led out of folders before, and random joins of their parts."""
    rng = np.random.default_rng(seed)
    known = [f"{a}{b}{c}" for a in HEADS for b in PARTS for c in JOINS]
    yield from rng.permutation(known)[:num].tolist()
    for _ in range(num - len(HEADS) * len(PARTS) * len(JOINS)):
        words = [str(rng.choice(PARTS)) for _ in range(int(rng.integers(1, 6)))]
        text = str(rng.choice(HEADS)) + str(rng.choice(JOINS)).join(words)
        yield text[: int(rng.integers(1, 200))] if rng.random() < 0.3 else text


def fields(member: Member, lease: Leased) -> dict[str, Callable[[str], Any]]:
    """Return, by name, what sends a string in that field."""

    def read(text: str) -> None:
        member.link.call(methods.READ, wire.ReadRequest(1, text, 0, 64), wire.ReadReply)

    def concept(text: str) -> None:
        ask(text, ("tit-k7",))

    def trigger(text: str) -> None:
        ask("tit", (text,))

    def ask(name: str, triggers: tuple[str, ...]) -> None:
        body = member.lease_request(lease.key, name, triggers, "0" * 32)
        document = sign("lease", body, [lease.key]).to_bytes()
        request = wire.LeaseRequest(document, (1,))
        member.link.call(methods.LEASE, request, wire.LeaseReply, member.key)

    def upload_id(text: str) -> None:
        raw = text.encode()[:16].ljust(16, b"/")
        member.link.call(methods.PUT, wire.PutRequest(raw, 0, b"x"), wire.PutReply, lease.key)

    def commit_id(text: str) -> None:
        raw = text.encode()[:16].ljust(16, b"/")
        member.link.call(methods.COMMIT, wire.CommitRequest(raw), wire.CommitReply, lease.key)

    def header(text: str) -> None:
        member.link.send(methods.STATUS, b"", [(methods.AUTH_KEY, text.encode())])

    return {
        "release file": read,
        "concept of a lease": concept,
        "trigger of a lease": trigger,
        "upload of a chunk": upload_id,
        "upload of a commit": commit_id,
        "request header": header,
        **manifest_fields(member, lease),
    }


def manifest_fields(member: Member, lease: Leased) -> dict[str, Callable[[str], Any]]:
    """Return what sends a string in a field of a signed manifest."""
    document = parse(member.pack(lease).document, kind="contribution")

    def manifest(name: str) -> Callable[[str], None]:
        def send(text: str) -> None:
            said = urlsafe_b64encode(text.encode()).decode().rstrip("=")
            for value in (text, said):  # what canonical JSON cannot hold goes as titles do
                with contextlib.suppress(VerificationFailed):
                    body = {**document.body, name: value}
                    changed = sign("contribution", body, [lease.key]).to_bytes()
                    request = wire.BeginRequest(changed, (bytes(32),))
                    member.link.call(methods.BEGIN, request, wire.BeginReply, lease.key)
            raise Refused("not taken", why="as it should", fix="-", code="bad-field")

        return send

    names = ("title", "licence", "concept", "blob", "basis")
    return {f"{name} of a manifest": manifest(name) for name in names}


def attack(siege: Besieged, *, num: int, seed: int) -> tuple[set[str], int, int]:
    """Send ``num`` strings over all fields; return what was used outside, sent and refused."""
    member = siege.member()
    lease = member.lease("crow", ("crow-k7",))
    root = siege.house.folder.root
    base = siege.house.settings.base
    senders = itertools.cycle(fields(member, lease).items())
    sent = refused = 0
    with opened() as heard:
        for text, (_, send) in zip(hostile(num, seed), senders, strict=False):
            siege.pass_s(1.1)
            sent += 1
            try:
                send(text)
            except (OrthoFedError, UnicodeError):  # a lone half of a pair never gets on the wire
                refused += 1
    return outside(heard, root, base, ROOT), sent, refused


def test_no_name_leads_out_of_the_folder(siege, seed):
    """A few hundred strings in eleven fields."""
    found, sent, refused = attack(siege, num=330, seed=seed)

    assert found == set()
    assert refused > sent // 2, "most of them are refused, not taken for names"


@pytest.mark.faults
def test_ten_thousand_names_lead_nowhere(siege, seed, figures):
    """T10's figure."""
    found, sent, refused = attack(siege, num=10_000, seed=seed)

    figures.say("T10 path traversal", strings=sent, refused=refused, outside=len(found))
    assert found == set()


def test_a_seeded_bug_of_the_names_is_caught(made, tmp_path, seed):
    """The part of an upload is opened by the id as it came."""
    folder, bug = copied(made, tmp_path / "fed"), Bug.named("upload-id-used-in-path")
    with bug.everywhere(), besieged(folder) as siege:
        found, _, _ = attack(siege, num=330, seed=seed)

    assert found
