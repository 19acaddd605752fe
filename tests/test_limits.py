"""What the coordinator remembers of callers is bounded, however many there are (T3, R15)."""

import pytest

from orthofed.coordinator import limits
from orthofed.core.errors import Refused

from .seeded import Bug

MOST = 262_144


def left_of_silent_keys(num: int) -> int:
    """Let keys make ten calls each; return what is remembered of them three minutes later."""
    nonces = limits.Nonces()
    for key in range(num):
        for nonce in range(10):
            nonces.once(f"key {key}", f"nonce {nonce}", now_s=key / num)
    assert len(nonces) == 10 * num
    nonces.once("another", "nonce", now_s=180.0)
    return len(nonces) - 1


def test_a_key_that_fell_silent_is_forgotten():
    """Every lease has a key of its own: the keys of months would stay else."""
    assert left_of_silent_keys(1_000) == 0


def test_a_seeded_bug_of_the_nonces_is_caught():
    with Bug.named("nonces-kept-for-ever").in_process():
        assert left_of_silent_keys(100) > 0


def test_many_busy_keys_do_not_fill_the_memory():
    """A hundred keys at their limit: the most silent go, and the newest are still known."""
    nonces = limits.Nonces()
    for key in range(100):
        for nonce in range(4_096):
            nonces.once(f"key {key}", f"nonce {nonce}", now_s=0.0)

    assert MOST - 4_096 <= len(nonces) <= MOST
    with pytest.raises(Refused) as refused:
        nonces.once("key 99", "nonce 0", now_s=1.0)
    assert refused.value.code == "replayed"
