"""Health and reflection, the two services that tools ask: a load balancer, grpcurl.

Laws as in server.py: bytes arrive as bytes, so a message that cannot be parsed is INVALID_ARGUMENT
and never INTERNAL; nothing here outlives a deadline. ``Watch`` is therefore UNIMPLEMENTED, which
the health protocol allows: a stream without end would let anybody hold a place for ever (T18).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

Context = grpc.aio.ServicerContext[bytes, bytes]
_M = TypeVar("_M", bound=Message)


class Introspection:
    """Answers for the services named; ``serving`` turns false when the server drains."""

    def __init__(self, services: tuple[str, ...], *, slowest_s: float) -> None:
        """Speak for ``services`` and for these two; a call has ``slowest_s`` seconds."""
        self.serving = True
        self._slowest_s = slowest_s
        self._health_of = {"", *services}
        names = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        self._reflection = reflection.aio.ReflectionServicer(names)

    def handlers(self) -> tuple[grpc.GenericRpcHandler, grpc.GenericRpcHandler]:
        """Return both services, to be added to a server."""
        check = grpc.stream_unary_rpc_method_handler(self._in_time(self._check))
        talk = grpc.stream_stream_rpc_method_handler(self._in_time(self._talk))
        return (
            grpc.method_handlers_generic_handler(health.SERVICE_NAME, {"Check": check}),
            grpc.method_handlers_generic_handler(
                reflection.SERVICE_NAME, {"ServerReflectionInfo": talk}
            ),
        )

    def _in_time(
        self,
        work: Callable[[Context], Awaitable[bytes | None]],
    ) -> Callable[[object, Context], Awaitable[bytes | None]]:
        async def handle(_requests: object, context: Context) -> bytes | None:
            try:
                async with asyncio.timeout(self._slowest_s):
                    return await work(context)
            except TimeoutError:
                await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "too slow")
            except DecodeError:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not a message of this call")

        return handle

    async def _check(self, context: Context) -> bytes:
        asked = _parse(health_pb2.HealthCheckRequest(), await context.read())
        if asked.service not in self._health_of:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        states = health_pb2.HealthCheckResponse
        state = states.SERVING if self.serving else states.NOT_SERVING
        return states(status=state).SerializeToString()

    async def _talk(self, context: Context) -> None:
        while (data := await context.read()) is not grpc.aio.EOF:
            asked = _parse(reflection_pb2.ServerReflectionRequest(), data)
            # An async generator, whatever the stubs say.
            replies: AsyncIterator[Message] = self._reflection.ServerReflectionInfo(  # pyright: ignore[reportAssignmentType]
                _alone(asked), None
            )
            async for reply in replies:
                await context.write(reply.SerializeToString())


async def _alone(message: _M) -> AsyncIterator[_M]:
    yield message


def _parse(message: _M, data: object) -> _M:
    if not isinstance(data, bytes):
        raise DecodeError("a call without a message")
    message.ParseFromString(data)
    return message
