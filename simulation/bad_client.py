"""A client that means ill. What the daemon would never send is made here by hand.

    huge          the loudest numbers that the format holds
    copy          another's place: the manifest names the slot before its own
    other-block   a block fingerprint that is not the slot's
    cut-blob      announces whole bytes and sends other ones
    squat         leases, renews without progress, sends nothing

Each ends with the code that the coordinator refused it by; ``taken`` would mean that it did not,
which a run reports as a failure. Source: security.md 2, T1, T5, T11.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..client.channel import Channel
from ..client.home_channel import home_channel
from ..client.join import join
from ..client.masters import Masters
from ..client.outbox import Outbox
from ..client.pinned import remembered
from ..client.upload import Upload
from ..core import document
from ..core.basis_fingerprint import basis_fingerprint
from ..core.contribution import ContributionManifest
from ..core.errors import OrthoFedError
from ..core.keys import SigningKey
from ..core.layout import ContributionLayout, pack
from ..core.quantise import TOKEN_WINDOW, quantise
from ..core.spec import FederationSpec
from ..proto import methods, wire
from .plan import Plan
from .scenario import Client

_LOUD = 0.45
"""Just inside of what A's integers can hold."""
_PATIENCE_S = 60.0
TAKEN = "taken"


def misbehave(plan: Plan, client: Client, *, leased: Callable[[int], None]) -> str:
    """Do it, and return the code of the refusal; ``squat`` gives ``squatted``."""
    home = plan.home(client)
    join(home, plan.invite, url=None, patience_s=_PATIENCE_S)
    with (
        home.lock(),
        home_channel(home, patience_s=_PATIENCE_S, outbox=_Ungated()) as channel,
    ):
        federation = remembered(home, channel).federation
        masters = Masters(home)
        master = masters.newest()
        key = master.client(federation.log, masters.next_counter(master))
        lease = _lease(channel, client, federation.log, master.member(federation.log), key)
        leased(lease.slot)
        if client.ill == "squat":
            return _squat(channel, key, lease)
        try:
            _send(plan, client, channel, key, lease, federation.spec, federation.log)
        except OrthoFedError as error:
            return error.code
    return TAKEN


class _Ungated(Outbox):
    """No gate: a client that means ill has thrown it away."""

    def __init__(self) -> None:
        """Hold nothing."""

    def record(self, method: str, request: object, body: bytes) -> None:
        """Let everything leave."""


def _lease(
    channel: Channel, client: Client, log: str, member: SigningKey, key: SigningKey
) -> wire.LeaseReply:
    body: dict[str, object] = {
        "client": key.public_hex,
        "concept": client.concept,
        "log": log,
        "member": member.public_hex,
        "request": secrets.token_hex(16),
        "triggers": [client.concept],
        "v": 1,
    }
    request = wire.LeaseRequest(document.sign("lease", body, [key]).to_bytes(), (1,))
    return channel.call(methods.LEASE, request, wire.LeaseReply, key=member)


def _squat(channel: Channel, key: SigningKey, lease: wire.LeaseReply) -> str:
    """Renew a few times with the same progress: the deadline does not move."""
    for _ in range(3):
        request = wire.RenewRequest(lease.slot, lease.fence, 1)
        channel.call(methods.RENEW, request, wire.RenewReply, key=key)
    return "squatted"


def _send(  # all that a manifest speaks of
    plan: Plan,
    client: Client,
    channel: Channel,
    key: SigningKey,
    lease: wire.LeaseReply,
    spec: FederationSpec,
    log: str,
) -> None:
    layout = ContributionLayout(spec, (1,))
    blob = _blob(spec, layout, loud=client.ill == "huge")
    manifest = ContributionManifest(
        basis=basis_fingerprint(spec, lease.slot),
        blob=hashlib.sha256(blob).hexdigest(),
        bytes=len(blob),
        client=key.public_hex,
        concept=client.concept,
        fed=spec.id,
        fence=lease.fence,
        licence="CC0-1.0",
        log=log,
        slot=lease.slot,
        t=int(time.time()),
        title="",
        triggers=(client.concept,),
        dp=None,
    )
    beside = (lease.slot + 1) % spec.capacity
    if client.ill == "copy":
        manifest = replace(manifest, slot=beside, basis=basis_fingerprint(spec, beside))
    if client.ill == "other-block":
        manifest = replace(manifest, basis=basis_fingerprint(spec, beside))
    if client.ill == "cut-blob":
        manifest = replace(manifest, blob=hashlib.sha256(b"other bytes").hexdigest())
    folder = plan.home(client).run(client.concept)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "blob").write_bytes(blob)
    signed = document.sign("contribution", manifest.body(), [key]).to_bytes()
    Upload(channel, key=key, document=signed, blob=folder / "blob", on_bytes=lambda *_: None).run()


def _blob(spec: FederationSpec, layout: ContributionLayout, *, loud: bool) -> bytes:
    """Return random numbers of a usual size, or of the largest, in the lease's layout."""
    chance = np.random.default_rng(1)
    tensors = {}
    for info in layout.content:
        kind, _, _ = info.name.partition(".")
        if kind == "a":
            values = chance.normal(size=info.shape) * 0.01
            values = np.sign(values) * _LOUD if loud else values
            low, high = spec.exponent_low, spec.exponent_high
        else:
            values, (low, high) = chance.normal(size=info.shape) * 0.01, TOKEN_WINDOW
        tensors[info.name] = quantise(values.astype(np.float32), low=low, high=high)
    return pack(layout, tensors)
