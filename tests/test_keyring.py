"""The keyring's own rules and the log id (security.md 4.3)."""

import dataclasses

import pytest

from orthofed.core.errors import VerificationFailed
from orthofed.core.keyring import Keyring, log_id
from orthofed.core.keys import SigningKey

KEYS = [SigningKey.from_seed(bytes([n]) * 32).public_hex for n in range(1, 9)]
RING = Keyring(
    fed="ab" * 32,
    fresh=604_800,
    ledger=KEYS[0],
    n=1,
    need=2,
    prev="0" * 64,
    release=(KEYS[1],),
    root=(KEYS[2], KEYS[3], KEYS[4]),
    t=1_790_000_000,
    until=1_805_552_000,
)


def test_a_keyring_survives_its_body() -> None:
    assert Keyring.from_body(RING.to_body()) == RING


@pytest.mark.parametrize(
    "change",
    [
        {"need": 0},
        {"need": 4},
        {"root": []},
        {"root": KEYS[:6]},
        {"root": [KEYS[2], KEYS[2], KEYS[3]]},
        {"root": ["x", KEYS[2], KEYS[3]]},
        {"release": []},
        {"release": KEYS[:5]},
        {"release": "01" + "00" * 31},
        {"release": ["01" + "00" * 31]},
        {"ledger": "01" + "00" * 31},
        {"n": 0},
        {"n": 2},
        {"prev": "ab" * 32},
        {"fresh": 0},
        {"until": 1_790_000_000},
        {"v": 2},
        {"more": 1},
    ],
)
def test_a_keyring_that_breaks_a_rule_is_refused(change: dict[str, object]) -> None:
    """Threshold, counts, duplicate keys, weak keys, chain, times, version, a field too many."""
    with pytest.raises(VerificationFailed):
        Keyring.from_body({**RING.to_body(), **change})


def test_each_missing_field_is_refused() -> None:
    body = RING.to_body()
    for name in body:
        with pytest.raises(VerificationFailed):
            Keyring.from_body({key: value for key, value in body.items() if key != name})


def test_the_log_id_changes_with_spec_and_keyring() -> None:
    """Whoever pins L pins both."""
    other = dataclasses.replace(RING, fresh=1)
    made = {log_id(fed, ring.id) for fed in ("ab" * 32, "cd" * 32) for ring in (RING, other)}

    assert len(made) == 4
