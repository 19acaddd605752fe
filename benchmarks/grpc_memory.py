"""What gRPC itself keeps of each connection after its messages are done: nothing here is ours.

    python benchmarks/grpc_memory.py --json

Claim (docs/log.md, 2026-11-29): a bare grpc.aio server has some 300 KB a connection in use after
two messages of 256 KiB at once, with all calls answered, and less with smaller messages; so a
thousand uploads leave the coordinator some 300 MB that no code of ours holds. Numbers are bytes in
use by the C library's allocator (``mallinfo2``), so Linux with glibc only; insecure channels.
"""

import argparse
import asyncio
import ctypes
import gc
import json
import multiprocessing
import sys
from typing import Any

import grpc

_OPTIONS = [("grpc.http2.bdp_probe", 0), ("grpc.max_concurrent_streams", 4)]
_ROUNDS, _ABREAST, _SETTLE_S = 8, 2, 4.0
_SIZES = (64 << 10, 256 << 10)
_BEFORE, _BEHIND = 7, 2  # the counts of mallinfo2 around the one that is read


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        ("before", ctypes.c_size_t * _BEFORE),
        ("in_use", ctypes.c_size_t),
        ("behind", ctypes.c_size_t * _BEHIND),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--connections", type=int, default=250)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result: dict[str, object] = {
        "schema": "orthofed.grpc-memory/1",
        "grpcio": grpc.__version__,
        "connections": options.connections,
    }
    for size in _SIZES:
        idle, after = asyncio.run(_measure(size, options.connections))
        result[f"kb_a_connection_after_{size >> 10}_kib"] = round(
            (after - idle) / options.connections / 1e3
        )
        result[f"kb_a_connection_before_{size >> 10}_kib"] = round(idle / options.connections / 1e3)
    if options.json:
        print(json.dumps(result, indent=2))
        return
    for name, value in result.items():
        print(f"{name:32} {value}")


async def _measure(size: int, num: int) -> tuple[int, int]:
    """Return the server's bytes in use with idle connections, before and after the messages."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,))
    process.start()
    port = await asyncio.to_thread(ours.recv)
    channels = [
        grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
        )
        for _ in range(num)
    ]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    idle = await _in_use(ours)
    await asyncio.gather(*(_send(channel, bytes(size)) for channel in channels))
    after = await _in_use(ours)
    process.kill()
    process.join()
    await asyncio.gather(*(channel.close() for channel in channels))
    return idle, after


async def _in_use(pipe: Any) -> int:
    await asyncio.sleep(_SETTLE_S)
    pipe.send("?")
    return await asyncio.to_thread(pipe.recv)


async def _send(channel: grpc.aio.Channel, body: bytes) -> None:
    for _ in range(_ROUNDS):
        calls = [channel.unary_unary("/bare/Take")(body, timeout=60) for _ in range(_ABREAST)]
        for call in calls:
            await call


def _serve(pipe: Any) -> None:
    asyncio.run(_answer(pipe))


async def _answer(pipe: Any) -> None:
    async def take(_requests: object, context: grpc.aio.ServicerContext) -> bytes:
        await context.read()
        return b"x"

    server = grpc.aio.server(options=_OPTIONS)
    handler = grpc.stream_unary_rpc_method_handler(take)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("bare", {"Take": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    pipe.send(port)
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _Mallinfo
    while await asyncio.to_thread(pipe.recv):
        gc.collect()
        pipe.send(mallinfo().in_use)


if __name__ == "__main__":
    sys.exit(main())
