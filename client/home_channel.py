"""Opens the connection of a home to its coordinator: pinned address, CA and log, everything noted.

Law: what is said through it stands in the home's outbox before it leaves. The caller holds the
home's lock, since two processes would write one outbox.
"""

from .channel import Channel
from .home import Home
from .outbox import Outbox


def home_channel(home: Home, *, patience_s: float, outbox: Outbox | None = None) -> Channel:
    """Return the channel, not connected yet; ``outbox``: the home's, if the caller has it open.

    Raises InputError: the home belongs to no federation. Raises VerificationFailed: its outbox, or
    its record of the federation, is damaged.
    """
    member = home.membership()
    return Channel(
        member.host_port,
        ca=member.ca,
        log=member.log,
        outbox=outbox or Outbox(home.folder / "outbox.jsonl"),
        certificate=home.certificate(),
        patience_s=patience_s,
    )
