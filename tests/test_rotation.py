"""New keys: what was signed before stays good, what old keys sign afterwards is refused (T25)."""

import datetime as dt
import json
import secrets
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from orthofed.client.channel import Channel
from orthofed.client.origin import WireOrigin
from orthofed.client.pull import Pull
from orthofed.client.seen_heads import SeenHeads
from orthofed.client.trust import TrustedFederation, placed, trusted_federation
from orthofed.client.verify import verify_folder
from orthofed.coordinator import ledger as ledgers
from orthofed.coordinator.doctor import examine
from orthofed.coordinator.keyfile import key_files, load_key, save_next_key
from orthofed.coordinator.rotation import Change, countersign, install, proposal_bytes, propose
from orthofed.core.address import FederationAddress
from orthofed.core.document import parse, sign
from orthofed.core.errors import InputError, VerificationFailed
from orthofed.core.keyring import ledger_key_at
from orthofed.core.keys import SigningKey
from orthofed.core.leaf import document_leaf
from orthofed.core.release import ReleaseManifest
from orthofed.proto import methods, wire

from .coordinator_process import run
from .rotating import forged_receipt, rotate
from .serving import FastFs, Running, founded, running


def contribute(coordinator: Running, name: str) -> bytes:
    member = coordinator.member()
    return member.contribute(member.pack(member.lease(name, (f"{name}-k7",)), seed=len(name)))


def federation(coordinator: Running) -> TrustedFederation:
    """Return what a client trusts after asking for the spec."""
    member = coordinator.member()
    reply = member.link.call(methods.GET_SPEC, wire.SpecRequest(), wire.SpecReply)
    trusted = trusted_federation(member.invite.log, reply.spec, reply.keyrings)
    return placed(trusted, reply.keyrings, reply.keyring_proofs)


def pull(coordinator: Running, out: Path):
    address = FederationAddress.from_text(coordinator.desk.link())
    with Channel(address.host_port, ca=address.ca, log=address.log, patience_s=10) as channel:
        seen = SeenHeads(out.parent / "home")
        return Pull(WireOrigin(channel), address.log, out, seen).run(contributions=True)


def test_old_receipts_and_releases_stay_good_over_every_rotation(tmp_path):
    """Contributions and releases before, between and after: ledger, release and root keys change.

    Every receipt verifies by the newest chain; each release is pulled and verified; the doctor
    finds the whole folder sound; a restart signs with the right key.
    """
    folder = founded(tmp_path)
    receipts = []
    with running(folder) as coordinator:
        receipts.append(contribute(coordinator, "anna"))
        coordinator.release()
        first = coordinator.house.ledger.key
        ring = rotate(coordinator, ledger=True)
        assert coordinator.house.ledger.key == ring.ledger != first
        receipts.append(contribute(coordinator, "bert"))
        rotate(coordinator, release=True)
        coordinator.release()
        pull(coordinator, tmp_path / "two")
        fresh = SigningKey.from_seed(secrets.token_bytes(32))
        _save_root(folder.keys, fresh)
        rotate(coordinator, root=(fresh.public_hex,), ledger=True)
        receipts.append(contribute(coordinator, "cleo"))
        coordinator.release()

    with running(folder) as coordinator:
        receipts.append(contribute(coordinator, "dora"))
        known = federation(coordinator)
        pull(coordinator, tmp_path / "three")
        sizes = [known.receipt(receipt).checkpoint.size for receipt in receipts]
        assert sizes == sorted(sizes)
        assert len(known.keyrings) == 4

    assert verify_folder(tmp_path / "two").release.manifest.n == 2
    assert verify_folder(tmp_path / "three").release.manifest.n == 3
    assert examine(folder.root, say=lambda _: None).healthy


def _save_root(keys: Path, key: SigningKey) -> None:
    save_next_key(keys, "root", key, fs=FastFs())


def test_a_ledger_key_signs_its_own_sizes_and_no_others(tmp_path):
    """leaf(k) < size <= leaf(k + 1), to the leaf; and so says the coordinator's own database."""
    with running(founded(tmp_path)) as coordinator:
        contribute(coordinator, "anna")
        place = coordinator.desk.status()["ledger_size"]
        old = coordinator.house.facts.ring
        new = rotate(coordinator, ledger=True)
        contribute(coordinator, "bert")

        rings, places = (old, new), (1, place)
        assert [ledger_key_at(rings, places, s) == new.ledger for s in (2, place, place + 1)] == [
            False,
            False,
            True,
        ]
        coordinator.house.heads.write()
        note = (coordinator.folder.public / "checkpoint").read_bytes()
        assert coordinator.house.store.run(ledgers.head).checkpoint == note


def test_after_a_rotation_the_old_ledger_key_signs_nothing_newer(tmp_path):
    """T25: a thief of the old key forges the receipt of a leaf that came after the hand-over.

    Who has read the ledger knows where the keyrings lie, and so does who was given the proofs: both
    refuse. The thief's receipt for a size from before is one that the coordinator could have made.
    """
    with running(founded(tmp_path)) as coordinator:
        stolen = load_key(coordinator.folder.keys, "ledger")
        contribute(coordinator, "anna")
        rotate(coordinator, ledger=True)
        member = coordinator.member()
        lease = member.lease("bert", ("bert-k7",))
        packed = member.pack(lease)
        receipt = member.contribute(packed)
        coordinator.release()
        release = pull(coordinator, tmp_path / "out")
        body = document_leaf(parse(packed.document, kind="contribution"))
        size = 40
        forged = forged_receipt(stolen, release.manifest.log, body, size)

        with pytest.raises(VerificationFailed, match="not signed by this ledger"):
            release.federation.receipt(forged)

        told = federation(coordinator)
        assert told.keyring_leaves == release.federation.keyring_leaves
        with pytest.raises(VerificationFailed, match="not signed by this ledger"):
            told.receipt(forged)
        with pytest.raises(VerificationFailed, match="nobody proved"):
            replace(told, keyring_leaves=()).receipt(receipt)
        assert release.federation.receipt(receipt).leaf_body == body


def test_after_a_rotation_a_release_by_the_old_release_key_is_refused(tmp_path):
    """T25: the thief signs the built manifest with the stolen key: not published, not believed."""
    with running(founded(tmp_path)) as coordinator:
        stolen = load_key(coordinator.folder.keys, "release")
        contribute(coordinator, "anna")
        coordinator.release()
        ring = rotate(coordinator, release=True)
        contribute(coordinator, "bert")
        plan = coordinator.desk.ask("plan", {"lambda_1024": None})
        assert plan["new"]
        coordinator.release()
        path = coordinator.folder.releases / "2" / "manifest.json"
        manifest = ReleaseManifest.from_document(parse(path.read_bytes(), kind="release"))
        release = pull(coordinator, tmp_path / "out")

        forged = sign("release", manifest.body(), (stolen,)).to_bytes()
        (tmp_path / "out" / "manifest.json").write_bytes(forged)

        assert release.manifest.n == 2
        assert stolen.public_hex not in ring.release
        with pytest.raises(VerificationFailed, match="release signature"):
            verify_folder(tmp_path / "out")


def test_a_release_key_may_overlap_with_the_one_before(tmp_path):
    """`keep_release`: until the next rotation both sign; one of them is enough."""
    with running(founded(tmp_path)) as coordinator:
        old = load_key(coordinator.folder.keys, "release").public_hex
        ring = rotate(coordinator, release=True, keep_release=True)
        contribute(coordinator, "anna")
        for path in coordinator.folder.keys.glob("release-*.pem"):
            path.unlink()  # the second operator's machine has the old one only
        coordinator.release()
        last = rotate(coordinator, release=True)

    assert set(ring.release) > {old}
    assert old not in last.release


def test_offline_roots_two_of_three(tmp_path):
    """Propose, two of three root machines sign, install; one alone is not enough, nor a stranger.

    Then one root key is lost: the other two put a new one in its place.
    """
    roots = [SigningKey.from_seed(bytes([n]) * 32) for n in (21, 22, 23, 24)]
    stranger = SigningKey.from_seed(b"s" * 32)
    with running(founded(tmp_path)) as coordinator:
        house = coordinator.house
        trio = tuple(key.public_hex for key in roots[:3])
        _save_roots(house.folder.keys, roots[:2])
        rotate(coordinator, root=trio, need=2)
        for path in key_files(house.folder.keys, "root"):
            path.unlink()  # they are elsewhere from now on

        def proposed(**change) -> bytes:
            ring = propose(
                house.folder.keys,
                house.facts.ring,
                Change(**change),
                now_s=house.clock.wall_s(),
                fs=FastFs(),
            )
            return proposal_bytes(ring)

        data = proposed(ledger=True)
        with pytest.raises(VerificationFailed):
            install(house, data)
        data = countersign(data, roots[0])[1]
        for wrong in (data, countersign(data, stranger)[1]):
            with pytest.raises(VerificationFailed, match="of 2 signatures"):
                install(house, wrong)
        data = countersign(countersign(data, roots[2])[1], roots[2])[1]
        assert install(house, data) == install(house, data) == 3

        healed = proposed(root=(trio[0], trio[2], roots[3].public_hex))
        for key in (roots[0], roots[2]):
            healed = countersign(healed, key)[1]
        install(house, healed)
        contribute(coordinator, "anna")

        assert house.facts.ring.root == (trio[0], trio[2], roots[3].public_hex)
        assert house.facts.ring.need == 2
        assert len(federation(coordinator).keyrings) == 4


def _save_roots(keys: Path, roots: list[SigningKey]) -> None:
    for key in roots:
        _save_root(keys, key)


def test_a_keyring_that_does_not_follow_is_refused_and_changes_nothing(tmp_path):
    """Two proposals from one keyring: the second to come is refused; so is one without its key."""
    with running(founded(tmp_path)) as coordinator:
        house = coordinator.house
        root = load_key(house.folder.keys, "root")
        made = [
            propose(house.folder.keys, house.facts.ring, Change(ledger=True), now_s=1, fs=FastFs())
            for _ in range(2)
        ]
        first, second = (countersign(proposal_bytes(ring), root)[1] for ring in made)
        (house.folder.keys / f"ledger-{made[0].ledger[:16]}.pem").rename(tmp_path / "away.pem")
        size = coordinator.desk.status()["ledger_size"]

        with pytest.raises(InputError, match="no ledger key"):
            install(house, first)
        assert coordinator.desk.status()["ledger_size"] == size
        install(house, second)
        with pytest.raises(VerificationFailed, match="does not follow"):
            install(house, first)

        assert house.facts.ring == made[1]
        assert contribute(coordinator, "anna")


def test_a_kill_before_the_leaf_leaves_the_old_keyring_and_after_it_the_new(tmp_path):
    """The key file is there and nothing else; then all is there but the public files: both start.

    The second start finds checkpoint, head and keyring file from before the rotation, and writes
    them anew.
    """
    folder = founded(tmp_path)
    with running(folder) as coordinator:
        contribute(coordinator, "anna")
        propose(
            folder.keys,
            coordinator.house.facts.ring,
            Change(ledger=True),
            now_s=coordinator.clock.wall_s(),
            fs=FastFs(),
        )
    with running(folder) as coordinator:
        assert coordinator.house.facts.ring.n == 1
        contribute(coordinator, "bert")
        before = shutil.copytree(folder.public, tmp_path / "public")
        ring = rotate(coordinator, ledger=True)
    shutil.rmtree(folder.public)
    shutil.copytree(before, folder.public)

    with running(folder) as coordinator:
        assert coordinator.house.ledger.key == ring.ledger
        assert (folder.public / "keyring" / "2.json").is_file()
        contribute(coordinator, "cleo")
        coordinator.release()
        pull(coordinator, tmp_path / "out")
    assert examine(folder.root, say=lambda _: None).healthy


@pytest.mark.parametrize(
    ("path", "mode"), [("", 0o755), ("ledger.pem", 0o644), ("tls-ca.key", 0o640)]
)
def test_a_coordinator_does_not_start_with_keys_that_others_can_read(path, mode, tmp_path):
    """The folder or a key in it is open: refused at the start, with the chmod that closes it."""
    folder = founded(tmp_path)
    with running(folder):
        pass
    opened = folder.keys / path
    kept = opened.stat().st_mode & 0o777
    opened.chmod(mode)

    with pytest.raises(InputError, match=f"has mode {mode:04o}") as refused, running(folder):
        pass
    assert refused.value.code == "key-open"
    assert refused.value.fix.startswith(f"run chmod {kept:o} {opened}")
    opened.chmod(kept)
    with running(folder):
        pass


def test_the_commands_rotate_and_never_show_a_key(tmp_path):
    """Rotate with the root in the folder; then root, propose, sign, install; JSON and text."""
    folder = founded(tmp_path)
    place = str(folder.root)
    out, root = str(tmp_path / "next.json"), tmp_path / "root-2.pem"

    told = [json.loads(run("coordinator", "rotate", place, "--ledger", "--json").stdout)]
    public = run("coordinator", "keyring", "root", str(root)).stdout.strip()
    words = ("--root", public, "--ledger", "--release", "-o", out)
    run("coordinator", "keyring", "propose", place, *words)
    for key in (folder.keys / "root.pem", root):
        run("coordinator", "keyring", "sign", out, "--key", str(key))
    text = run("coordinator", "keyring", "install", place, out).stdout
    told.append(json.loads(run("coordinator", "keyring", "show", place, "--json").stdout))
    shown = run("coordinator", "keyring", "show", place).stdout
    done = run("coordinator", "rotate", place, "--release", check=False)

    assert [each["n"] for each in told] == [2, 3]
    assert "keyring 3 is in force" in text
    until = dt.datetime.fromtimestamp(told[1]["until"], dt.UTC)
    assert f"keyring 3, in force until {until:%Y-%m-%d %H:%M:%S}Z\n" in shown
    assert told[1]["root"] == [public]
    assert root.stat().st_mode & 0o777 == 0o600
    assert done.returncode == 2
    assert "0 of the 1 root keys" in done.stderr
    with running(folder) as coordinator:
        contribute(coordinator, "anna")
        coordinator.release()
