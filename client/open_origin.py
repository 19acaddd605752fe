"""Opens the places that a pull reads from: a federation's link, or HTTP servers with its files."""

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.address import FederationAddress
from ..core.errors import InputError
from ..core.tree_address import TreeAddress, is_tree_address
from .origin import Origin, WireOrigin

if TYPE_CHECKING:  # whoever pulls from a web server alone needs no grpc
    from .channel import Channel
    from .client_certificate import ClientCertificate


@dataclass(frozen=True, slots=True)
class Opened:
    """Who shows the ledger ``log``; mirrors; the channel, where it is a coordinator's."""

    log: str
    origin: Origin
    mirrors: tuple[Origin, ...]
    channel: "Channel | None"


@contextmanager
def open_origin(
    url: str,
    *,
    mirrors: Sequence[str] = (),
    certificate: "ClientCertificate | None" = None,
    patience_s: float,
) -> Generator[Opened]:
    """Give the origin at ``url`` and its mirrors until the block ends.

    Raises InputError: an address that cannot be read, or of another log than ``url``.
    """
    with ExitStack() as stack:
        if is_tree_address(url):
            from .http_origin import HttpOrigin  # noqa: PLC0415  # a link needs no HTTP

            tree = TreeAddress.from_text(url)
            log, channel = tree.log, None
            origin: Origin = stack.enter_context(HttpOrigin(tree, patience_s=patience_s))
        else:
            from .channel import Channel  # noqa: PLC0415  # as above

            address = FederationAddress.from_text(url)
            channel = stack.enter_context(
                Channel(
                    address.host_port,
                    ca=address.ca,
                    log=address.log,
                    certificate=certificate,
                    patience_s=patience_s,
                )
            )
            log, origin = address.log, WireOrigin(channel)
        yield Opened(log, origin, tuple(_mirror(text, log, stack) for text in mirrors), channel)


def log_of_url(url: str) -> str:
    """Return the log id that a link or the address of a web server pins.

    Raises InputError: it cannot be read.
    """
    if is_tree_address(url):
        return TreeAddress.from_text(url).log
    return FederationAddress.from_text(url).log


def is_url(text: str) -> bool:
    """Return whether ``text`` is meant as a link or as the address of a web server."""
    return text.startswith("orthofed://") or is_tree_address(text)


def _mirror(text: str, log: str, stack: ExitStack) -> Origin:
    from .http_origin import HttpOrigin  # noqa: PLC0415  # as above

    address = TreeAddress.from_text(text, pinned=False)
    if address.log not in ("", log):
        raise InputError(
            f"a mirror of log {address.log[:16]}... beside a link of {log[:16]}...",
            why="a mirror has files of the same federation",
            fix="leave --mirror out, or take a mirror of this federation",
            code="other-log",
        )
    return stack.enter_context(HttpOrigin(address, patience_s=0, mirror=True))
