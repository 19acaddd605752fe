"""One call as the gRPC shell hands it on: bytes, and who sent them.

Law: ``body`` is the message as it arrived, since the signature covers those very bytes (security.md
4.4). What the service gives back is the reply's bytes; a refusal is an OrthoFedError. Nothing here
is checked: that is for auth.py and the service.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ..proto.methods import Method


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it arrived: the bytes that the signature covers, and who sent them."""

    method: Method
    body: bytes
    header: bytes
    signature: bytes
    peer: str


Answer = Callable[[Call], bytes]
