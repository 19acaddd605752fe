"""Messages as values: what goes in comes out, and nothing malformed gets in."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orthofed.core.errors import InputError
from orthofed.proto import methods, wire
from orthofed.proto.v1 import orders_pb2, releases_pb2

RECEIPT = b"receipt"
VALUES = [
    wire.SpecRequest(),
    wire.SpecReply(
        b"spec",
        (b"one", b"two"),
        b"note",
        "see the shelf\nin the hall",
        3,
        100,
        800,
        347,
        (b"proof",),
    ),
    wire.SpecReply(b"spec", (b"one",), b"note", "", 3),
    wire.JoinRequest(b"proof"),
    wire.JoinReply(),
    wire.LeaseRequest(b"document", (1, 8)),
    wire.RotateRequest(b"document"),
    wire.RotateReply(),
    wire.LeaseReply(0, 1, ttl_s=900, hold_s=86_400),
    wire.RenewRequest(3, (1 << 53) - 1, progress=0),
    wire.RenewRequest(3, 1, progress=(1 << 64) - 1, total=10**9),
    wire.RenewReply(ttl_s=0, held_s=5),
    wire.GiveBackRequest(0, 1),
    wire.GiveBackReply(),
    wire.BeginRequest(b"document", (bytes(32), b"\1" * 32)),
    wire.BeginRequest(b"document", (bytes(32),), bytes(640)),
    wire.BeginReply(bytes(16), b"\5", b""),
    wire.PutRequest(bytes(16), 0, b"x" * methods.CHUNK_BYTES),
    wire.PutReply(0),
    wire.CommitRequest(bytes(16)),
    wire.CommitReply(receipt=RECEIPT),
    wire.CommitReply(missing=(0, 7)),
    wire.StatusRequest(0, 1),
    wire.StatusRequest(0, 0),
    *(wire.StatusReply(state) for state in wire.State.__args__),
    wire.StatusReply("accepted", "why", 5, RECEIPT),
    wire.WithdrawRequest(b"document"),
    wire.WithdrawReply(RECEIPT),
    wire.OrdersRequest(),
    wire.OrdersReply(()),
    wire.OrdersReply(
        (
            wire.Order(bytes(16), "train", "wren", 0, 0),
            wire.Order(b"\1" * 16, "score", "anna-k7", (1 << 31) - 1, (1 << 53) - 1),
            wire.Order(b"\2" * 16, "withdraw", "wren", 3, 1_790_000_000),
        ),
        node_seen_s=1,
        bridge_seen_s=(1 << 32) - 1,
    ),
    wire.FleetKeyRequest("ecdsa-sha2-nistp384 AAAA"),
    wire.FleetKeyReply(),
    wire.StatusReply("rejected", "two lines:\nn\u00f8, \u00fcber, \u5426"),
    wire.ScoreRequest("wren", 1, 0, 0, 0, 1, 1),
    wire.ScoreRequest("anna-k7", (1 << 31) - 1, 10**9, 10**9, 10**9, 10**6, 10**6),
    wire.ScoreReply(),
    wire.ListRequest(),
    wire.ListReply((), 0),
    wire.ListReply((1, 3), 3),
    wire.ManifestRequest(0),
    wire.ManifestReply(b"document", RECEIPT, b"spec", (b"one",)),
    wire.ReadRequest(1, "lora/a.safetensors", 1 << 40, 1),
    wire.ReadReply(b"", 0),
    wire.ReadReply(b"data", 1 << 40),
    wire.ContributionRequest((1 << 53) - 1),
    wire.ContributionReply(RECEIPT),
    wire.ReadContributionRequest(0, 1 << 40, methods.READ_BYTES),
]
KINDS = sorted({type(value) for value in VALUES}, key=lambda kind: kind.__name__)
BAD = [
    wire.SpecReply(b"", (b"one",), b"note", "", 0),
    wire.SpecReply(b"spec", (), b"note", "", 0),
    wire.SpecReply(b"spec", (b"one",), b"note", "\x1b[2J", 0),
    wire.SpecReply(b"spec", (b"one",), b"note", "", 0, 1_000_001, 800, 347),
    wire.SpecReply(b"spec", (b"one",), b"note", "", 0, keyring_proofs=(b"",)),
    wire.SpecReply(b"spec", (b"one",), b"note", "", 0, keyring_proofs=(b"proof",) * 64),
    wire.SpecReply(b"spec", (b"one",), b"note", "\u009b2J", 0),
    wire.StatusReply("rejected", "\u202egnp.exe"),
    wire.StatusReply("rejected", "\x7f"),
    wire.JoinRequest(b""),
    wire.LeaseRequest(b"document", ()),
    wire.RotateRequest(b""),
    wire.RotateRequest(bytes(2049)),
    wire.LeaseRequest(b"document", (0,)),
    wire.LeaseReply(0, 0, ttl_s=900, hold_s=1),
    wire.LeaseReply(0, 1, ttl_s=0, hold_s=1),
    wire.RenewRequest(0, 1 << 53, progress=0),
    wire.RenewRequest(0, 1, progress=0, total=10**9 + 1),
    wire.BeginRequest(b"document", ()),
    wire.BeginRequest(b"document", (bytes(31),)),
    wire.BeginReply(bytes(15), b"", b""),
    wire.PutRequest(bytes(17), 0, b"x"),
    wire.PutRequest(bytes(16), methods.MAX_CHUNKS, b"x"),
    wire.PutRequest(bytes(16), 0, b""),
    wire.CommitReply(missing=()),
    wire.CommitReply(missing=(2, 1)),
    wire.CommitReply(missing=(methods.MAX_CHUNKS,)),
    wire.StatusRequest(1, 0),
    wire.WithdrawRequest(b""),
    wire.WithdrawRequest(bytes((2 << 10) + 1)),
    wire.WithdrawReply(b""),
    wire.OrdersReply((wire.Order(bytes(15), "train", "wren", 0, 0),)),
    wire.OrdersReply((wire.Order(bytes(16), "train", "../wren", 0, 0),)),
    wire.OrdersReply((wire.Order(bytes(16), "train", "Wren", 0, 0),)),
    wire.OrdersReply((wire.Order(bytes(16), "train", "w" * 32, 0, 0),)),
    wire.OrdersReply((wire.Order(bytes(16), "train", "wren", 1 << 31, 0),)),
    wire.OrdersReply((wire.Order(bytes(16), "train", "wren", 0, 1 << 53),)),
    wire.OrdersReply((wire.Order(bytes(16), "train", "wren", 0, 0),) * 65),
    wire.FleetKeyRequest(""),
    wire.FleetKeyRequest("a" * 513),
    wire.FleetKeyRequest("ecdsa\x1b[2J"),
    wire.ScoreRequest("Wren", 1, 0, 0, 0, 1, 1),
    wire.ScoreRequest("wren", 0, 0, 0, 0, 1, 1),
    wire.ScoreRequest("wren", 1 << 31, 0, 0, 0, 1, 1),
    wire.ScoreRequest("wren", 1, 10**9 + 1, 0, 0, 1, 1),
    wire.ScoreRequest("wren", 1, 0, 10**9 + 1, 0, 1, 1),
    wire.ScoreRequest("wren", 1, 0, 0, 10**9 + 1, 1, 1),
    wire.ScoreRequest("wren", 1, 0, 0, 0, 0, 1),
    wire.ScoreRequest("wren", 1, 0, 0, 0, 1, 10**6 + 1),
    wire.ListReply((0, 1), 1),
    wire.ListReply((1, 2), 1),
    wire.ReadRequest(1, "a" * 256, 0, 1),
    wire.ReadRequest(1, "a", 0, 0),
    wire.ReadRequest(1, "a", 0, methods.READ_BYTES + 1),
    wire.ContributionRequest(1 << 53),
    wire.ContributionReply(b""),
    wire.ReadContributionRequest(1 << 53, 0, 1),
    wire.ReadContributionRequest(1, 0, 0),
    wire.ReadContributionRequest(1, 0, methods.READ_BYTES + 1),
]


def _names(values: list) -> list[str]:
    return [f"{type(value).__name__}-{i}" for i, value in enumerate(values)]


@pytest.mark.parametrize("value", VALUES, ids=_names(VALUES))
def test_a_value_comes_back_from_its_bytes(value):
    """to_bytes and from_bytes undo each other."""
    assert type(value).from_bytes(value.to_bytes()) == value


@pytest.mark.parametrize("value", BAD, ids=_names(BAD))
def test_a_value_out_of_bounds_is_refused(value):
    """What proto/v1 does not allow for a field does not get in."""
    with pytest.raises(InputError) as refused:
        type(value).from_bytes(value.to_bytes())

    assert refused.value.code == "malformed"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(derandomize=True, deadline=None, max_examples=60)
@given(data=st.binary(max_size=400))
def test_random_bytes_are_a_value_or_malformed(kind, data):
    """Any bytes at all: a value that keeps its bounds, or one typed error."""
    with contextlib.suppress(InputError):
        value = kind.from_bytes(data)

        assert kind.from_bytes(value.to_bytes()) == value


def test_an_order_of_no_kind_is_malformed():
    """What no operator can order, nobody carries out."""
    order = orders_pb2.Order(id=bytes(16), concept="wren")

    with pytest.raises(InputError, match="kind 0, allowed are 1 to 3"):
        wire.OrdersReply.from_bytes(orders_pb2.OrdersReply(orders=[order]).SerializeToString())


def test_size_is_looked_at_before_structure():
    """A request one byte over its limit is refused by its size alone (T5)."""
    with pytest.raises(InputError, match="allowed are 4096"):
        wire.RenewRequest.from_bytes(b"\xff" * 4097)


def test_the_largest_legal_messages_fit_their_limits():
    """The largest Begin and Put are below the limit of their call and of the server."""
    begin = wire.BeginRequest(bytes(16 << 10), (bytes(32),) * methods.MAX_CHUNKS)
    put = wire.PutRequest(bytes(16), methods.MAX_CHUNKS - 1, bytes(methods.CHUNK_BYTES))

    assert len(begin.to_bytes()) <= methods.BEGIN.request_bytes
    assert len(put.to_bytes()) <= methods.PUT.request_bytes <= methods.MESSAGE_BYTES
    assert max(method.request_bytes for method in methods.METHODS) <= methods.MESSAGE_BYTES


@pytest.mark.parametrize("num", [0, 1, 127, 128, 16_383, 16_384, methods.READ_BYTES])
@pytest.mark.parametrize("total", [0, 1 << 40])
def test_a_piece_of_a_file_is_written_as_protobuf_writes_it(num, total):
    """The data are laid into the message by hand; every length of its length is tried."""
    data = bytes(num)

    by_hand = wire.ReadReply(data, total).to_bytes()

    assert by_hand == releases_pb2.ReadReply(data=data, total_bytes=total).SerializeToString()
