"""Calls that come faster than the loop looks at them: kept waiting, never ended without a word."""

import asyncio
import time
from collections import Counter

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from orthofed.coordinator.tls import authority_der
from orthofed.proto import methods, wire

from .serving import Running, founded, running

CONNECTIONS, CALLS = 300, 4
HELD_S = 3.0


@pytest.fixture
def coordinator(tmp_path):
    with running(founded(tmp_path)) as served:
        yield served


def test_twelve_hundred_calls_behind_a_loop_that_is_busy_are_all_answered(coordinator):
    """By itself gRPC ends one in some of those above 1,000 as CANCELLED, with no word of ours."""
    told = asyncio.run(_flood(coordinator))

    assert told == Counter({grpc.StatusCode.OK: CONNECTIONS * CALLS})


async def _flood(coordinator: Running) -> Counter[grpc.StatusCode]:
    authority = x509.load_der_x509_certificate(authority_der(coordinator.folder.keys))
    credentials = grpc.ssl_channel_credentials(authority.public_bytes(Encoding.PEM))
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    address = f"localhost:{coordinator.server.port}"
    channels = [
        grpc.aio.secure_channel(address, credentials, options=options) for _ in range(CONNECTIONS)
    ]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    _hold_up(coordinator)
    body = wire.SpecRequest().to_bytes()
    calls = [
        channel.unary_unary(methods.GET_SPEC.path)(body, timeout=60)
        for channel in channels
        for _ in range(CALLS)
    ]
    told = Counter([await call.code() for call in calls])
    await asyncio.gather(*(channel.close() for channel in channels))
    return told


def _hold_up(coordinator: Running) -> None:
    """Keep the server's loop from everything for a while, as a busy machine does."""
    coordinator.server._loop.call_soon_threadsafe(time.sleep, HELD_S)
