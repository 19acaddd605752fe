"""The outbox: every message first written down, chained by hashes, and only what was approved."""

import hashlib
from pathlib import Path

import pytest

from orthofed.client.outbox import ZERO, Outbox, read_record
from orthofed.core.canonical import decode, encode
from orthofed.core.document import sign
from orthofed.core.errors import InputError, OrthoFedError, VerificationFailed
from orthofed.core.keys import SigningKey
from orthofed.proto import methods, wire

RENEW = wire.RenewRequest(3, 7, 100)
CHUNK = b"chunk" * 1000
MANIFEST = sign("contribution", {"log": "0" * 64, "v": 1}, [SigningKey(bytes(32))]).to_bytes()
BEGIN = wire.BeginRequest(MANIFEST, (hashlib.sha256(CHUNK).digest(),))
PUT = wire.PutRequest(bytes(16), 0, CHUNK)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.jsonl"


def _lines(path: Path) -> list[dict[str, object]]:
    entries = [decode(line) for line in path.read_bytes().splitlines()]
    return [entry for entry in entries if isinstance(entry, dict)]


def test_each_line_names_the_hash_of_the_one_before(path: Path) -> None:
    """Method, length, hash and the whole message; the chain starts at zeros."""
    outbox = Outbox(path)
    for progress in (1, 2, 3):
        request = wire.RenewRequest(3, 7, progress)
        outbox.record(methods.RENEW.path, request, request.to_bytes())

    lines = path.read_bytes().splitlines()
    entries = _lines(path)
    assert [entry["n"] for entry in entries] == [0, 1, 2]
    hashes = [ZERO, *(hashlib.sha256(line).hexdigest() for line in lines)]
    assert [entry["prev"] for entry in entries] == hashes[:-1]
    body = wire.RenewRequest(3, 7, 3).to_bytes()
    assert entries[2]["body"] == body.hex()
    assert entries[2]["sha256"] == hashlib.sha256(body).hexdigest()
    assert entries[2]["method"] == methods.RENEW.path


def test_the_chain_goes_on_in_the_next_process(path: Path) -> None:
    """Opened again, checked, continued."""
    Outbox(path).record(methods.RENEW.path, RENEW, RENEW.to_bytes())

    Outbox(path).record(methods.RENEW.path, RENEW, RENEW.to_bytes())

    assert [entry["n"] for entry in _lines(path)] == [0, 1]
    Outbox(path)


def test_a_changed_line_is_found(path: Path) -> None:
    """Changing, dropping or inserting a line anywhere but at the end breaks the chain."""
    outbox = Outbox(path)
    for progress in (1, 2, 3):
        request = wire.RenewRequest(3, 7, progress)
        outbox.record(methods.RENEW.path, request, request.to_bytes())
    lines = path.read_bytes().splitlines(keepends=True)
    other = encode({**_lines(path)[0], "bytes": 999}) + b"\n"
    forgeries = [
        [other, *lines[1:]],
        lines[1:],
        [lines[0], lines[2]],
        [lines[0], lines[0], *lines[1:]],
        [lines[1], lines[0], lines[2]],
        [b"{}\n", *lines],
        [lines[0], b"\n", *lines[1:]],
    ]
    for forged in forgeries:
        path.write_bytes(b"".join(forged))

        with pytest.raises(VerificationFailed, match="does not follow"):
            Outbox(path)


def test_a_line_torn_by_a_kill_is_dropped(path: Path) -> None:
    """Its message was never sent, since sending comes after the sync."""
    Outbox(path).record(methods.RENEW.path, RENEW, RENEW.to_bytes())
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:50])
    assert [each.n for each in read_record(path).sent] == [0]
    assert path.read_bytes() == whole + whole[:50], "a look changes nothing"

    Outbox(path).record(methods.RENEW.path, RENEW, RENEW.to_bytes())

    assert [entry["n"] for entry in _lines(path)] == [0, 1]


def test_a_chunk_stands_by_its_hash(path: Path) -> None:
    """The bytes lie in the run's folder; the record names them and stays small."""
    outbox = Outbox(path)
    outbox.approve(BEGIN.document, BEGIN.chunks)

    outbox.record(methods.PUT.path, PUT, PUT.to_bytes())

    (entry,) = _lines(path)
    assert entry["chunk"] == BEGIN.chunks[0].hex()
    assert "body" not in entry


@pytest.mark.parametrize(
    "request_",
    [BEGIN, PUT, wire.BeginRequest(b"another manifest", (), b"wraps for a stranger")],
    ids=["manifest", "chunk", "wraps"],
)
def test_what_was_not_approved_is_not_sent(
    request_: wire.BeginRequest | wire.PutRequest, path: Path
) -> None:
    """The gate: without a yes to these very bytes the message is stopped and not written."""
    outbox = Outbox(path)
    outbox.approve(b"another manifest", [hashlib.sha256(b"another chunk").digest()])
    method = methods.BEGIN if isinstance(request_, wire.BeginRequest) else methods.PUT

    with pytest.raises(InputError, match="stopped before it left") as caught:
        outbox.record(method.path, request_, request_.to_bytes())

    assert caught.value.code == "egress-refused"
    assert not path.exists()


def test_a_method_that_is_not_on_the_list_is_not_sent(path: Path) -> None:
    """The allow-list: a message to a call that this version does not know stays here."""
    with pytest.raises(InputError, match="stopped before it left"):
        Outbox(path).record("/orthofed.v2.Federation/SendImages", RENEW, b"images")

    assert not path.exists()


def test_a_full_disk_stops_the_message_and_keeps_the_chain(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be written down is not sent; with room again the chain goes on."""
    outbox = Outbox(path)
    outbox.record(methods.RENEW.path, RENEW, RENEW.to_bytes())

    def no_space(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("orthofed.client.outbox.os.fsync", no_space)
        with pytest.raises(OrthoFedError, match="bytes needed"):
            outbox.record(methods.RENEW.path, RENEW, RENEW.to_bytes())

    outbox.record(methods.RENEW.path, RENEW, RENEW.to_bytes())
    assert [entry["n"] for entry in _lines(path)] == [0, 1]
    Outbox(path)


def test_the_file_is_begun_anew_and_the_chain_goes_on_over_all_of_them(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three lines a file: the numbers and hashes go on, whoever opens it, and all is checked."""
    monkeypatch.setattr("orthofed.client.outbox.LINES_A_FILE", 3)
    for _ in range(8):
        Outbox(path).record(methods.GET_SPEC.path, wire.SpecRequest(), b"")

    names = sorted(each.name for each in path.parent.iterdir())
    assert names == ["outbox-000000000.jsonl", "outbox-000000003.jsonl", "outbox.jsonl"]
    assert [each.n for each in read_record(path).sent] == list(range(8))

    first = path.with_name(names[0])
    first.write_bytes(first.read_bytes().replace(b'"n":1', b'"n":7'))
    with pytest.raises(VerificationFailed, match=r"line 2 of .*outbox-000000000\.jsonl"):
        read_record(path)
    Outbox(path).record(methods.GET_SPEC.path, wire.SpecRequest(), b"")
    path.write_bytes(path.read_bytes().replace(b'"prev":"', b'"prev":"0', 1))
    with pytest.raises(VerificationFailed, match=r"line 1 of .*outbox\.jsonl"):
        Outbox(path)
