"""The bound on an upload: a rate, and a day's allowance."""

import time

import pytest

from orthofed.client.throttle import Throttle
from orthofed.core.errors import OrthoFedError


def test_the_mean_rate_is_the_one_asked_for() -> None:
    """Four chunks of 64 KiB at 640 KiB a second: the last may go after 0.3 s, not before."""
    throttle = Throttle.of(640, None)
    begun_s = time.monotonic()
    for _ in range(4):
        throttle.take(64 * 1024)
    took_s = time.monotonic() - begun_s

    assert 0.3 <= took_s < 5


def test_what_does_not_fit_into_the_allowance_is_not_sent() -> None:
    """The bytes that fit pass; then it stops with a code that the daemon waits by."""
    throttle = Throttle.of(0, 1_000)

    throttle.take(600)
    with pytest.raises(OrthoFedError, match="the next 401 bytes are more than the 400") as caught:
        throttle.take(401)
    assert caught.value.code == "upload-quota"
    throttle.take(400)


def test_without_bounds_nothing_waits() -> None:
    """As every other command sends."""
    begun_s = time.monotonic()

    Throttle().take(1 << 40)

    assert time.monotonic() - begun_s < 1
