"""A data owner's real home without a training: joined, leased and uploaded by client/ itself.

``Owner.joined(path, invite)`` is a member; ``contribute`` does what `orthofed client train` does
from the lease on, with random numbers for what was learnt, so that tests of what comes after the
receipt need no torch.
"""

import secrets
from dataclasses import dataclass
from pathlib import Path

from orthofed.client import session as flow
from orthofed.client.channel import Channel
from orthofed.client.home import Home, write_whole
from orthofed.client.join import join
from orthofed.client.masters import Masters
from orthofed.client.outbox import Outbox
from orthofed.client.packed_contribution import PackedContribution, sha256
from orthofed.client.session import Session
from orthofed.client.state import RECEIPT, load, save
from orthofed.client.trust import TrustedFederation
from orthofed.client.upload import Upload, chunk_hashes
from orthofed.client.withdrawal import Contribution, Withdrawn, withdraw
from orthofed.core.document import sign
from orthofed.core.keys import SigningKey
from orthofed.core.layout import ContributionLayout, unpack
from orthofed.proto import methods, wire

from .member import random_blob

PATIENCE_S = 20


@dataclass
class Owner:
    """One member's home and the federation that it pinned."""

    home: Home
    federation: TrustedFederation

    @classmethod
    def joined(cls, path: Path, invite: str) -> "Owner":
        home = Home.at(path)
        return cls(home, join(home, invite, url=None, patience_s=PATIENCE_S).federation)

    def channel(self) -> Channel:
        member = self.home.membership()
        return Channel(
            member.host_port,
            ca=member.ca,
            log=member.log,
            outbox=Outbox(self.home.folder / "outbox.jsonl"),
            patience_s=PATIENCE_S,
        )

    def key(self, session: Session) -> SigningKey:
        return self.masters.of(session.epoch).client(self.federation.log, session.counter)

    @property
    def masters(self) -> Masters:
        return Masters(self.home)

    def lease(self, concept: str, triggers: tuple[str, ...] = ()) -> Session:
        """Lease a slot, as far as phase ``leased``."""
        triggers = triggers or (f"{concept}-k7",)
        request, master = secrets.token_hex(16), self.masters.newest()
        counter, vectors = self.masters.next_counter(master), (1,) * len(triggers)
        session = Session(
            concept, triggers, vectors, "person", request, counter, epoch=master.epoch
        )
        return self.ask(session)

    def ask(self, session: Session) -> Session:
        """Ask for the session's lease, with the member key of now."""
        member, key = self.masters.newest().member(self.federation.log), self.key(session)
        body: dict[str, object] = {
            "client": key.public_hex,
            "concept": session.concept,
            "log": self.federation.log,
            "member": member.public_hex,
            "request": session.request,
            "triggers": list(session.triggers),
            "v": 1,
        }
        asked = wire.LeaseRequest(sign("lease", body, [key]).to_bytes(), session.vectors)
        with self.channel() as channel:
            got = channel.call(methods.LEASE, asked, wire.LeaseReply, key=member)
        granted = flow.Granted(got.slot, got.fence, got.ttl_s, got.hold_s)
        return self.step(session, granted)

    def give_back(self, session: Session) -> None:
        request = wire.GiveBackRequest(session.slot, session.fence)
        with self.channel() as channel:
            channel.call(methods.GIVE_BACK, request, wire.GiveBackReply, key=self.key(session))

    def contribute(self, concept: str, *, seed: int = 0) -> Session:
        """Lease, pack random numbers, upload, keep the receipt."""
        return self.send(self.pack(concept, seed=seed))

    def pack(self, concept: str, *, seed: int = 0) -> Session:
        """Lease and pack random numbers, as far as phase ``approved``."""
        session = self.step(self.lease(concept), flow.Trained())
        folder = self.home.run(concept)
        packed = PackedContribution(folder, self.federation.spec, self.federation.log)
        layout = ContributionLayout(self.federation.spec, session.vectors)
        blob = random_blob(self.federation.spec, session.vectors, seed=seed, size=0.02)
        made = packed.write(
            session, unpack(layout, blob), self.key(session), title=None, licence="CC0-1.0"
        )
        return self.step(self.step(session, made), flow.Approved())

    def send(self, session: Session, *, keep: bool = True) -> Session:
        """Upload what is packed; with ``keep`` False the receipt never reaches the disk."""
        folder = self.home.run(session.concept)
        packed = PackedContribution(folder, self.federation.spec, self.federation.log)
        manifest, _ = packed.read(session)
        outbox = Outbox(self.home.folder / "outbox.jsonl")
        outbox.approve(manifest, chunk_hashes(packed.sent_blob))
        member = self.home.membership()
        with Channel(
            member.host_port, ca=member.ca, log=member.log, outbox=outbox, patience_s=PATIENCE_S
        ) as channel:
            receipt = Upload(
                channel,
                key=self.key(session),
                document=manifest,
                blob=packed.sent_blob,
                on_bytes=lambda _sent, _total: None,
            ).run()
        if not keep:
            return session
        write_whole(folder / RECEIPT, receipt)
        return self.step(session, flow.Received(sha256(receipt)))

    def step(self, session: Session, event: flow.Event) -> Session:
        session, _ = flow.step(session, event)
        save(self.home.run(session.concept), session)
        return session

    def saved(self, concept: str) -> Session:
        session = load(self.home.run(concept))
        assert session is not None
        return session

    def withdraw(self, concept: str) -> Withdrawn:
        return withdraw(self.home, concept, ask=_yes, patience_s=PATIENCE_S)


def _yes(_found: Contribution) -> bool:
    return True
