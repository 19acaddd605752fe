"""`orthofed pull --key`: a consumer merges at home, and gets the bytes of a public merge."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from orthofed.client.base_folder import BaseFolder
from orthofed.client.channel import Channel
from orthofed.client.local_merge import WORK, LocalMerge, Merged
from orthofed.client.recipient_key import new_recipient
from orthofed.client.seen_heads import SeenHeads
from orthofed.coordinator import lease_rows
from orthofed.core.address import FederationAddress
from orthofed.core.errors import ContributionRejected, InputError, OrthoFedError, Refused
from orthofed.core.keys import SigningKey
from orthofed.core.layout import ContributionLayout, pack, unpack
from orthofed.core.quantise import quantise
from orthofed.core.recipient import Recipient
from orthofed.proto import methods, wire

from .coordinator_process import run
from .member import Leased, Member, random_blob
from .private_owner import pack_private
from .serving import Running, founded, running

CARLA, DORA = (X25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
REX, EVA = (SigningKey.from_seed(bytes([n]) * 32) for n in (11, 12))


def recipient(private: X25519PrivateKey) -> Recipient:
    return Recipient(private.public_key().public_bytes_raw())


@contextmanager
def channel_to(coordinator: Running) -> Iterator[tuple[Channel, str]]:
    address = FederationAddress.from_text(coordinator.desk.link())
    with Channel(address.host_port, ca=address.ca, log=address.log, patience_s=10) as channel:
        yield channel, address.log


def merge(
    coordinator: Running, out: Path, private: X25519PrivateKey = CARLA, *, n: int = 0, **how: Any
) -> Merged:
    base = BaseFolder(coordinator.house.settings.base)
    with channel_to(coordinator) as (channel, log):
        return LocalMerge(channel, log, out, SeenHeads(out.parent / "home"), private, base).run(
            n, **how
        )


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def contribute(member: Member, name: str, key: SigningKey, *to: X25519PrivateKey) -> None:
    """Contribute numbers that ``name`` alone decides: publicly, or for ``to``."""
    lease = member.lease(name, (f"{name}-k7", f"{name}-p2"), vectors=(2, 1), key=key)
    seed = sum(name.encode())
    if to:
        packed, _ = pack_private(member, lease, [recipient(each) for each in to], seed=seed)
    else:
        packed = member.pack(lease, seed=seed)
    member.contribute(packed)


def test_the_merge_at_home_has_the_bytes_of_a_public_one(tmp_path):
    """Twins of one federation: Rex and Eva are private here, public there; Anna is public in both.

    Carla holds the key of both and merges at home: every file is the public release's, byte for
    byte. Dora holds Eva's alone, and gets the bytes of a release without Rex.
    """
    one = founded(tmp_path / "one")
    other, third = (
        type(one).open(shutil.copytree(one.root, tmp_path / name / "fed", symlinks=True))
        for name in ("two", "three")
    )

    with running(one) as coordinator:
        member = coordinator.member()
        contribute(member, "anna", SigningKey.from_seed(b"a" * 32))
        contribute(member, "rex", REX, CARLA)
        contribute(member, "eva", EVA, CARLA, DORA)
        coordinator.release(614)
        both = merge(coordinator, tmp_path / "both", lambda_1024=614)
        alone = merge(coordinator, tmp_path / "alone", DORA, lambda_1024=614)
    for folder, names in ((other, ("anna", "rex", "eva")), (third, ("anna", "eva"))):
        with running(folder) as coordinator:
            member = coordinator.member()
            for name in ("anna", "rex", "eva"):
                key = {"rex": REX, "eva": EVA}.get(name) or SigningKey.from_seed(b"a" * 32)
                if name in names:
                    contribute(member, name, key)
                else:  # the same slots and leaves as in the twin
                    contribute(member, name, key, CARLA)
            coordinator.release(614)

    assert (both.public, both.private) == (("anna",), ("rex", "eva"))
    assert (alone.private, alone.num_sealed_for_others) == (("eva",), 1)
    for made, folder in ((tmp_path / "both", other), (tmp_path / "alone", third)):
        released = folder.releases / "1"
        public = files(released)
        del public["manifest.json"], public["info.json"]
        here = files(made)
        del here["info.json"]
        assert here == public
        # Nobody signed what is merged here, so it describes no file that it leaves out.
        said, told = (json.loads((x / "info.json").read_bytes()) for x in (released, made))
        assert [file["kind"] for file in said.pop("derived")] == ["full"]
        assert told == said
    assert "lora/wren-fed-r0001.safetensors" in files(tmp_path / "both")
    assert "checkpoint/unet/diffusion_pytorch_model.safetensors" in files(tmp_path / "both")


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[Running]:
    """Anna public; Rex for Carla, Eva for Dora; one release."""
    with running(founded(tmp_path_factory.mktemp("shared"))) as coordinator:
        member = coordinator.member()
        contribute(member, "anna", SigningKey.from_seed(b"a" * 32))
        contribute(member, "rex", REX, CARLA)
        contribute(member, "eva", EVA, DORA)
        coordinator.release()
        yield coordinator


def test_a_merge_that_was_cut_goes_on_and_ends_the_same(shared, tmp_path):
    """Killed after any of its files: run again, the same bytes, and nothing else in the folder."""
    merge(shared, tmp_path / "whole")
    wanted = files(tmp_path / "whole")
    for cut_after in (1, 4, len(wanted) - 1):
        out = tmp_path / f"cut-{cut_after}"
        done = []

        def stop(name: str, *_: object, done=done, cut_after=cut_after) -> None:
            done.append(name)
            if len(done) == cut_after:
                raise KeyboardInterrupt

        base = BaseFolder(shared.house.settings.base)
        with channel_to(shared) as (channel, log), pytest.raises(KeyboardInterrupt):
            LocalMerge(channel, log, out, SeenHeads(tmp_path / "home"), CARLA, base, stop).run()
        assert (out / WORK).is_dir()

        merge(shared, out)

        assert files(out) == wanted


def test_a_folder_with_something_else_is_left_alone(shared, tmp_path):
    """Neither a release nor anybody's files are written over; a finished merge is one of them."""
    (tmp_path / "mine.txt").write_text("mine")

    with pytest.raises(InputError, match="holds something else"):
        merge(shared, tmp_path)
    merge(shared, tmp_path / "out")
    with pytest.raises(InputError, match="holds something else"):
        merge(shared, tmp_path / "out")

    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_who_was_not_named_is_told_so(shared, tmp_path):
    """Eve's key opens nothing of this release: exit code 3, what to do, and no file."""
    eve = X25519PrivateKey.generate()

    with pytest.raises(Refused, match="none of 2 private contributions") as refused:
        merge(shared, tmp_path / "out", eve)

    assert refused.value.code == "not-for-you"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {WORK}


def test_who_is_named_later_is_given_it_by_the_same_command(tmp_path):
    """Release 1 holds nothing for Carla and says: pull a newer release. Release 2 does."""
    with running(founded(tmp_path)) as coordinator:
        member = coordinator.member()
        contribute(member, "eva", EVA, DORA)
        coordinator.release()
        with pytest.raises(Refused, match="release 1 is sealed for this key"):
            merge(coordinator, tmp_path / "out")
        contribute(member, "rex", REX, CARLA)
        coordinator.release()

        merged = merge(coordinator, tmp_path / "out")

    assert (merged.release.manifest.n, merged.private) == (2, ("rex",))
    assert not (tmp_path / "out" / WORK).exists()


def test_what_was_withdrawn_since_is_not_given(tmp_path):
    """Rex withdrew after the release: his ciphertext is given to nobody, Eva's still is."""
    with running(founded(tmp_path)) as coordinator:
        member = coordinator.member()
        contribute(member, "anna", SigningKey.from_seed(b"a" * 32))
        contribute(member, "rex", REX, CARLA)
        contribute(member, "eva", EVA, CARLA)
        coordinator.release()
        leaf = member.check(member.status(_lease_of(coordinator, REX)).receipt).index
        member.withdraw(_lease_of(coordinator, REX), leaf)

        found = merge(coordinator, tmp_path / "out")
        with pytest.raises(Refused) as refused:
            _read(member, leaf)

    assert found.private == ("eva",)
    assert refused.value.code == "no-such-contribution"


def _lease_of(coordinator: Running, key: SigningKey) -> Leased:
    found = coordinator.house.store.run(lambda db: lease_rows.of_client(db, key.public_hex))
    assert found is not None
    return Leased(key, found.concept, found.triggers, found.vectors, found.slot, found.fence)


def _read(member: Member, leaf: int) -> wire.ReadReply:
    request = wire.ReadContributionRequest(leaf, 0, 1)
    return member.link.call(methods.READ_CONTRIBUTION, request, wire.ReadReply)


def _louder(spec, lease: Leased, name: str, value: float) -> bytes:
    """Return a legal blob whose tensors ``name...`` are as large as they can be."""
    layout = ContributionLayout(spec, lease.vectors)
    tensors = unpack(layout, random_blob(spec, lease.vectors, seed=1, size=0.01))
    for info in layout.content:
        if info.name.startswith(name):
            low, high = layout.window(info.name)
            full = np.full(info.shape, value, dtype=np.float32)
            tensors[info.name] = quantise(full, low=low, high=high)
    return pack(layout, tensors)


def _damaged(blob: bytes) -> bytes:
    return blob[:8] + b"[" + blob[9:]


BROKEN: dict[str, tuple[Callable[[Member, Leased], dict], str]] = {
    "norm": (lambda m, s: {"blob": _louder(m.spec(), s, "a.", 0.49)}, "has spectral norm"),
    "vectors": (lambda m, s: {"blob": _louder(m.spec(), s, "embed.", 30.0)}, "learned vector"),
    "header": (lambda m, s: {"blob": _damaged(m.pack(s).blob)}, "missing or damaged"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_the_coordinator_could_not_look_at_is_looked_at_here(what, tmp_path):
    """A sealed contribution that a public one's gates refuse: stored, and refused by its reader."""
    make, says = BROKEN[what]
    with running(founded(tmp_path)) as coordinator:
        member = coordinator.member()
        contribute(member, "anna", SigningKey.from_seed(b"a" * 32))
        lease = member.lease("rex", ("rex-p2",))
        packed, _ = pack_private(member, lease, [recipient(CARLA)], **make(member, lease))
        member.contribute(packed)
        coordinator.release()

        with pytest.raises(OrthoFedError, match=says):
            merge(coordinator, tmp_path / "out")


def test_a_block_that_is_not_the_slots_is_noticed_by_the_reader_too(shared, tmp_path, monkeypatch):
    """T11: should a coordinator have let it pass, the consumer computes the fingerprint again."""
    monkeypatch.setattr(
        "orthofed.client.private_contributions.basis_fingerprint", lambda *_: "ab" * 32
    )

    with pytest.raises(ContributionRejected, match="another slot's block"):
        merge(shared, tmp_path / "out")


def test_the_commands_take_it_all_the_way(tmp_path):
    """Recipient new, a sealed contribution, release, pull --key: as JSON, and what people read."""
    key = tmp_path / "carla.key"
    carla = new_recipient(key)
    with running(founded(tmp_path)) as coordinator:
        member = coordinator.member()
        contribute(member, "anna", SigningKey.from_seed(b"a" * 32))
        lease = member.lease("rex", ("rex-p2",))
        packed, plain = pack_private(member, lease, [carla])
        member.contribute(packed)
        coordinator.release()
        link, base = coordinator.desk.link(), str(coordinator.house.settings.base)
        words = ("pull", link, "--key", str(key), "--base", base, "--patience", "10")

        told = json.loads(run(*words, "-o", str(tmp_path / "one"), "--json").stdout)
        text = run(*words, "-o", str(tmp_path / "two"), "--lambda", "0.5").stdout

    assert (told["public"], told["private"], told["sealed_for_others"]) == (["anna"], ["rex"], 0)
    assert "merged in" in text
    assert "signed by nobody" in text
    info = json.loads((tmp_path / "two" / "info.json").read_bytes())
    assert [each["lambda"] for each in info["concepts"]] == [1024, 512]
    assert info["concepts"][1]["blob"] == hashlib.sha256(plain).hexdigest()
