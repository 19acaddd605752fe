"""Errors travel as status, text and code, and come back as the same class."""

import grpc
import pytest

from orthofed.core import errors
from orthofed.core.errors import LeaseLost, OrthoFedError, Refused, Unreachable
from orthofed.proto import failure

KINDS = [
    errors.OrthoFedError,
    errors.InputError,
    errors.SpecError,
    errors.Unreachable,
    errors.Refused,
    errors.LeaseLost,
    errors.ContributionRejected,
    errors.VerificationFailed,
]


@pytest.mark.parametrize("code", sorted(failure._TABLE))
def test_a_known_code_comes_back_as_its_class_and_text(code):
    """What the coordinator raised is what the client raises, in its three parts."""
    _, kind = failure._TABLE[code]
    sent = kind("slot 3 is gone", why="it was given away", fix="lease again", code=code)

    back = failure.error_from(*failure.status_of(sent))

    assert type(back) is kind
    assert (back.what, back.why, back.fix, back.code) == (sent.what, sent.why, sent.fix, code)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("code", [*sorted(failure._TABLE), "never-heard-of"])
def test_no_error_is_unknown_or_internal(kind, code):
    """Whatever is raised leaves with a status of gRPC that says something (security.md 5)."""
    status, _, _ = failure.status_of(kind("w", why="y", fix="f", code=code))

    assert status in grpc.StatusCode.__members__
    assert status not in {"UNKNOWN", "INTERNAL", "OK"}


@pytest.mark.parametrize("kind", KINDS[1:], ids=lambda kind: kind.__name__)
def test_a_code_of_a_newer_version_keeps_its_exit_code_family(kind):
    """A code that this version does not know still ends as a refusal or as unreachable."""
    sent = kind("w", why="y", fix="f", code="from-the-future")

    back = failure.error_from(*failure.status_of(sent))

    assert back.code == "from-the-future"
    assert isinstance(back, Unreachable if kind is Unreachable else Refused)


def test_what_the_transport_says_is_unreachable():
    """No trailer means that no coordinator spoke."""
    assert isinstance(failure.error_from("UNAVAILABLE", "connect failed", ""), Unreachable)
    assert failure.error_from("DEADLINE_EXCEEDED", "", "").code == "timed-out"
    assert failure.error_from("UNKNOWN", "", "").exit_code == 1


def test_text_from_the_wire_cannot_drive_a_terminal():
    """Escape sequences and endless text are gone before anybody prints them."""
    hostile = "slot\x1b[2J\x07 3\nwhy: \x9bx\nfix: " + "y" * 100_000

    error = failure.error_from("FAILED_PRECONDITION", hostile, "lease-lost\x1b")

    assert isinstance(error, LeaseLost)
    assert "\x1b" not in str(error)
    assert "\x9b" not in str(error)
    assert len(str(error)) < 3_000
    assert error.code == "lease-lost"


def test_a_retry_is_for_what_passes_by_itself():
    """reliability.md 4: four statuses are tried again, but not a full house; so is a broken line.

    UNKNOWN: "Stream removed", gRPC's word for a TLS record with a flipped bit. CANCELLED: its word
    for a call under which the coordinator was stopped.
    """
    assert failure.may_retry("UNAVAILABLE", "draining")
    assert failure.may_retry("RESOURCE_EXHAUSTED", "no-room")
    assert failure.may_retry("DATA_LOSS", "chunk-damaged")
    assert failure.may_retry("UNKNOWN", "")
    assert failure.may_retry("INTERNAL", "")
    assert failure.may_retry("CANCELLED", "")
    assert not failure.may_retry("RESOURCE_EXHAUSTED", "no-free-slot")
    assert not failure.may_retry("FAILED_PRECONDITION", "lease-lost")


def test_an_error_of_ours_is_never_silent():
    """Every class maps, the root too."""
    assert failure.status_of(OrthoFedError("w", why="y", fix="f", code="x"))[0] == "UNAVAILABLE"
