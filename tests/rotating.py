"""New keys for a federation in one step, and what a thief of an old one can make."""

from orthofed.coordinator.keyfile import key_files, read_key
from orthofed.coordinator.rotation import Change, countersign, install, proposal_bytes, propose
from orthofed.core import merkle
from orthofed.core.checkpoint import Checkpoint, sign_checkpoint
from orthofed.core.keyring import Keyring
from orthofed.core.keys import SigningKey
from orthofed.core.merkle import leaf_hash
from orthofed.core.receipt import make_receipt

from .serving import FastFs, Running


def rotate(coordinator: Running, **change) -> Keyring:
    """Propose, sign with the folder's root keys, install."""
    house = coordinator.house
    ring = propose(
        house.folder.keys,
        house.facts.ring,
        Change(**change),
        now_s=house.clock.wall_s(),
        fs=FastFs(),
    )
    data = proposal_bytes(ring)
    for path in key_files(house.folder.keys, "root"):
        data = countersign(data, read_key(path))[1]
    install(house, data)
    return ring


def forged_receipt(key: SigningKey, log: str, body: bytes, size: int) -> bytes:
    """Return a receipt of ``body`` as the last of ``size`` leaves that nobody ever wrote."""
    leaves = [leaf_hash(b"%d" % n) for n in range(size - 1)] + [leaf_hash(body)]
    note = sign_checkpoint(key, Checkpoint(log, size, merkle.root(leaves)))
    return make_receipt(body, size - 1, merkle.inclusion_proof(leaves, size - 1, size), note)
