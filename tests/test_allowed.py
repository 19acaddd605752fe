"""The allow-list of what may leave: complete, without a place for an image, and obeyed."""

import hashlib
import inspect
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from orthofed.client.allowed import DOCUMENTS, FIELDS, HEADER, allow
from orthofed.client.outbox import Outbox
from orthofed.core import contribution, document
from orthofed.core.contribution import ContributionManifest
from orthofed.core.errors import InputError
from orthofed.core.keys import SigningKey
from orthofed.core.request import RequestHeader
from orthofed.core.withdrawal import Withdrawal
from orthofed.proto import methods, wire
from orthofed.proto.raw_fields import raw_fields
from orthofed.proto.v1 import contributions_pb2, federation_pb2, orders_pb2, releases_pb2

KEY = SigningKey(bytes(32))
FILES = (federation_pb2, contributions_pb2, orders_pb2, releases_pb2)
NAMES = {"string", "bytes"}
BIGGEST = 16 << 10
"""No field but a chunk of the blob holds more: the smallest photograph that shows a face is larger
than what a person may type here, and documents are parsed value by value."""


def requests() -> dict[str, Descriptor]:
    """Return the descriptor of each call's request, by path."""
    return {
        f"/{service.full_name}/{call.name}": call.input_type
        for file in FILES
        for service in file.DESCRIPTOR.services_by_name.values()
        for call in service.methods
    }


def test_every_field_of_every_request_is_listed_and_no_other():
    """A field that is added to proto/v1 cannot be sent before somebody writes down why."""
    contract = {
        path: {field.number: field.name for field in message.fields}
        for path, message in requests().items()
    }

    listed = {path: {n: each.name for n, each in found.items()} for path, found in FIELDS.items()}

    assert listed == contract
    assert set(contract) == {method.path for method in methods.METHODS}


def test_every_entry_says_why():
    """A reason is more than the field's name."""
    reasons = [each.why for found in FIELDS.values() for each in found.values()]
    reasons += [why for found in DOCUMENTS.values() for why in found.values()] + [*HEADER.values()]

    assert all(len(why) >= 8 for why in reasons)


def test_documents_and_header_are_listed_value_by_value():
    """What core signs is what is listed: a new value of a manifest is on the list or stays here."""
    manifest = {field.name for field in fields(ContributionManifest)} | {"v"}
    withdrawal = {field.name for field in fields(Withdrawal)} | {"v"}
    header = {field.name for field in fields(RequestHeader)} | {"v"}

    assert set(DOCUMENTS["contribution"]) == manifest
    assert set(DOCUMENTS["withdrawal"]) == withdrawal
    assert set(HEADER) == header
    assert set(DOCUMENTS) == {each.document for f in FIELDS.values() for each in f.values()} - {""}
    assert "title" in inspect.getsource(contribution)


def test_no_field_has_room_for_an_image_a_caption_or_code():
    """Numbers; ids and hashes of a fixed length; documents; the blob's integers; a file's name.

    The one large field is a chunk, whose bytes the coordinator takes only as the integers that the
    lease's layout fixes (core/layout.py): 16 bits each, no text, no header of one's own.
    """
    large = []
    for path, message in requests().items():
        for field in message.fields:
            allowed = FIELDS[path][field.number]
            if field.type in (FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_STRING):
                if allowed.most > BIGGEST:
                    large.append(field.full_name)
            else:
                assert allowed.most <= 128, field.full_name
                assert field.message_type is None, f"{field.full_name} nests a message"
    assert large == ["orthofed.v1.PutRequest.data"]
    words = ("image", "caption", "prompt", "code", "script", "path", "email", "host")
    names = {each.name for found in FIELDS.values() for each in found.values()}
    names |= {name for found in DOCUMENTS.values() for name in found}
    assert not [(name, word) for name in names for word in words if word in name]


HONEST = [
    (methods.GET_SPEC, wire.SpecRequest()),
    (methods.RENEW, wire.RenewRequest(1023, (1 << 53) - 1, progress=(1 << 63), total=10**9)),
    (methods.BEGIN, None),
    (methods.PUT, wire.PutRequest(bytes(16), 2047, bytes(methods.CHUNK_BYTES))),
    (methods.READ, wire.ReadRequest(1 << 20, "a" * 255, 1 << 60, methods.READ_BYTES)),
    (methods.STATUS, wire.StatusRequest(0, 1)),
    (methods.ORDERS, wire.OrdersRequest()),
    (methods.FLEET_KEY, wire.FleetKeyRequest("a" * 512)),
    (
        methods.SCORE,
        wire.ScoreRequest(
            "w" * 31, (1 << 31) - 1, *[10**9] * 3, num_pictures=10**6, num_draws=10**6
        ),
    ),
]


def begin(**more: object) -> bytes:
    """Return a Begin whose manifest has every listed value, and ``more``."""
    body: dict[str, object] = dict.fromkeys(DOCUMENTS["contribution"], 1)
    signed = document.sign("contribution", {**body, **more}, [KEY]).to_bytes()
    return wire.BeginRequest(signed, (bytes(32),) * methods.MAX_CHUNKS).to_bytes()


def beside(**more: object) -> bytes:
    """Return a Begin whose manifest is as it should be, and has ``more`` beside its body."""
    whole = json.loads(document.sign("contribution", {"v": 1}, [KEY]).to_bytes())
    text = json.dumps({**whole, **more}, sort_keys=True, separators=(",", ":"))
    return wire.BeginRequest(text.encode(), ()).to_bytes()


@pytest.mark.parametrize(("method", "request_"), HONEST, ids=lambda x: getattr(x, "path", ""))
def test_what_the_contract_allows_passes(method, request_):
    """The largest message of a call, to the byte."""
    allow(method.path, begin() if request_ is None else request_.to_bytes())


def field(number: int, data: bytes) -> bytes:
    """Return one length-delimited field."""
    return bytes([number << 3 | 2, len(data)]) + data


STATUS = wire.StatusRequest(1, 1).to_bytes()
REFUSED = {
    "a call of another version": ("/orthofed.v2.Federation/SendImages", b""),
    "a field that nobody listed": (methods.STATUS.path, STATUS + field(9, b"IMG_2041.jpg")),
    "a known field once more": (methods.STATUS.path, STATUS + STATUS),
    "a field that is too long": (methods.COMMIT.path, field(1, bytes(17))),
    "a value in the place of none": (methods.GET_SPEC.path, field(1, b"x")),
    "bytes that are no message": (methods.STATUS.path, b"\xff" * 12),
    "a truncated message": (methods.COMMIT.path, field(1, bytes(16))[:-1]),
    "a float": (methods.STATUS.path, b"\x0d\x00\x00\x80\x3f"),
    "text where a document belongs": (methods.BEGIN.path, field(1, b"a caption")),
    "a document of another kind": (
        methods.WITHDRAW.path,
        wire.WithdrawRequest(document.sign("lease", {"v": 1}, [KEY]).to_bytes()).to_bytes(),
    ),
    "a manifest with a value more": (methods.BEGIN.path, begin(captions=["a fox"])),
    "a value beside the body": (methods.BEGIN.path, beside(captions=["a fox"])),
}


def test_what_stands_beside_the_refused_value_is_no_fault() -> None:
    """The same document without it passes, so that it alone was refused."""
    allow(methods.BEGIN.path, beside())


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_on_no_list_is_stopped_and_not_written(case, tmp_path):
    """By the outbox, hence before the network: nothing in the file, nothing on the wire."""
    method, body = REFUSED[case]
    outbox = Outbox(tmp_path / "outbox.jsonl")

    with pytest.raises(InputError, match="stopped before it left") as stopped:
        outbox.record(method, object(), body)

    assert stopped.value.code == "egress-refused"
    assert stopped.value.fix
    assert not (tmp_path / "outbox.jsonl").exists()


def test_raw_fields_show_every_byte():
    """What the walk yields, written again, is the message: nothing hides between fields."""
    body = begin()

    values = [(f.number, f.value) for f in raw_fields(body) if isinstance(f.value, bytes)]
    again = b"".join(bytes([n << 3 | 2]) + varint(len(value)) + value for n, value in values)

    assert again == body


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def run_sent(home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "orthofed", "client", "sent", "--json"]
    return subprocess.run(
        [*command, "--home", str(home)], capture_output=True, text=True, check=False
    )


def test_the_command_lists_what_left_and_finds_a_change(tmp_path):
    """Numbers, sizes, SHA-256; with one byte changed it ends with exit code 4."""
    outbox = Outbox(tmp_path / "outbox.jsonl")
    requests_ = [wire.RenewRequest(3, 7, n) for n in range(3)]
    for request in requests_:
        outbox.record(methods.RENEW.path, request, request.to_bytes())
    path = tmp_path / "outbox.jsonl"

    listed = run_sent(tmp_path)
    told = json.loads(listed.stdout)
    path.write_bytes(path.read_bytes().replace(b'"bytes":6', b'"bytes":5', 1))
    changed = run_sent(tmp_path)

    assert [each["sha256"] for each in told["messages"]] == [
        hashlib.sha256(request.to_bytes()).hexdigest() for request in requests_
    ]
    assert told["total_bytes"] == sum(len(request.to_bytes()) for request in requests_)
    assert told["messages"][0]["method"] == methods.RENEW.path
    assert changed.returncode == 4
    assert json.loads(changed.stdout)["error"]["code"] == "outbox-broken"
