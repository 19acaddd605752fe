"""A service in this very process as a member's connection: no socket, no thread, our clock."""

from collections.abc import Callable
from typing import Any

from orthofed.coordinator.call import Call
from orthofed.coordinator.service import Service
from orthofed.core.invite import Invite
from orthofed.proto import methods

from .member import Wire


class Direct(Wire):
    """Hands each call to ``service``; the sender's clock is ``now_s``, the machine's by default."""

    def __init__(
        self, service: Service, invite: Invite, *, now_s: Callable[[], int] | None = None
    ) -> None:
        self._service = service
        self._now_s = now_s
        self.invite = invite
        self.clock_offset_s = 0
        self.last_trailers = {}

    def now_s(self) -> int:
        return super().now_s() if self._now_s is None else self._now_s() + self.clock_offset_s

    def send(self, method: methods.Method, body: bytes, metadata: Any = ()) -> bytes:
        said = dict(metadata)
        header, signature = (said.get(k, b"") for k in (methods.AUTH_KEY, methods.SIGNATURE_KEY))
        return self._service.answer(Call(method, body, header, signature, peer="unix:"))
