"""What a release takes over from the one before: the same bytes, none believed, none harmed."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orthofed.coordinator import carried, publisher
from orthofed.coordinator.base import BaseFolder
from orthofed.coordinator.carried import Carried
from orthofed.coordinator.folder import DataFolder
from orthofed.coordinator.keyfile import load_key
from orthofed.coordinator.publications import Plan
from orthofed.coordinator.removal import Removal
from orthofed.core.document import sign
from orthofed.core.fields import NO_ID
from orthofed.core.withdrawal import Withdrawal

from .member import Leased
from .seeded import Bug
from .serving import FastFs, Running, founded, running

LAMBDA = 614
ANNA = "concepts/wren-fed-anna.safetensors"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Release 1 holds anna, bert and carl; release 2 dora too."""
    with running(founded(tmp_path_factory.mktemp("carried"))) as coordinator:
        for name in ("anna", "bert", "carl"):
            contributed(coordinator, name)
        coordinator.release(LAMBDA)
        contributed(coordinator, "dora")
        coordinator.release(LAMBDA)
        yield coordinator


def contributed(coordinator: Running, name: str) -> tuple[Leased, int]:
    member = coordinator.member()
    lease = member.lease(name, (f"{name}-k7", f"{name}-q2"), vectors=(1, 2))
    packed = member.pack(lease, seed=sum(name.encode()))
    return lease, member.check(member.contribute(packed)).index


def release(coordinator: Running, n: int) -> Path:
    return coordinator.folder.releases / str(n)


def contents(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()
    }


def shared(coordinator: Running, n: int) -> set[str]:
    """Return the names that release ``n`` shares with the one before."""
    before, now = release(coordinator, n - 1), release(coordinator, n)
    return {
        name
        for name in contents(now)
        if (before / name).exists() and (before / name).samefile(now / name)
    }


def plan_of(coordinator: Running) -> Plan:
    """Return the plan of the newest release."""
    return Plan.from_bytes(coordinator.desk.ask("plan", {"lambda_1024": LAMBDA})["plan"].encode())


def build(coordinator: Running, plan: Plan, folder: DataFolder) -> dict[str, bytes]:
    publisher.build(
        folder,
        coordinator.house.facts.spec,
        plan,
        load_key(coordinator.folder.keys, "release"),
        base=BaseFolder(coordinator.folder.settings().base),
        fs=FastFs(),
        say=lambda _: None,
    )
    return contents(folder.releases / str(plan.n))


def built_again(coordinator: Running, n: int) -> dict[str, bytes]:
    """Throw release ``n``, the newest, away and build it from its plan."""
    plan = plan_of(coordinator)
    assert plan.n == n
    shutil.rmtree(release(coordinator, n))
    return build(coordinator, plan, coordinator.folder)


def never_had_another(coordinator: Running, folder: Path) -> dict[str, bytes]:
    """Return the newest release's concepts released as the very first release of all."""
    elsewhere = DataFolder(folder)
    elsewhere.blobs = coordinator.folder.blobs
    elsewhere.releases.mkdir(parents=True)
    return build(coordinator, replace(plan_of(coordinator), n=1, prev=NO_ID), elsewhere)


def own_files(*names: str) -> set[str]:
    """Return the files that one concept alone decides."""
    triggers = {f"embeddings/{n}-{t}.safetensors" for n in names for t in ("k7", "q2")}
    return triggers | {f"concepts/wren-fed-{name}.safetensors" for name in names}


def test_one_concept_more_makes_that_concepts_files_alone(filled):
    """Release 2 shares the others' LoRAs and vectors with release 1; the sums are its own."""
    assert shared(filled, 2) == own_files("anna", "bert", "carl")


def test_without_the_release_before_the_bytes_are_the_same(filled):
    """A cache changes no byte: release 1 moved away, release 2 built anew, file by file."""
    before = contents(release(filled, 2))
    away = release(filled, 1).rename(filled.folder.releases / "away")

    try:
        assert built_again(filled, 2) == before
        assert shared(filled, 2) == set()
    finally:
        away.rename(release(filled, 1))
    assert built_again(filled, 2) == before
    assert shared(filled, 2) == own_files("anna", "bert", "carl")


def harmed(path: Path, harm: str) -> None:
    """Spoil one file, or the manifest of its release."""
    data = path.read_bytes()
    if harm == "gone":
        path.unlink()
    elif harm == "a folder":
        path.unlink()
        path.mkdir()
    elif harm == "manifest":
        (path.parent.parent / "manifest.json").write_bytes(b"{}")
    else:
        changed = {
            "last byte": data[:-1] + bytes([data[-1] ^ 1]),
            "first byte": bytes([data[0] ^ 1]) + data[1:],
            "header": data.replace(b'"orthofed.format":"1"', b'"orthofed.format":"2"'),
            "cut": data[:-100],
            "empty": b"",
        }[harm]
        assert changed != data
        path.write_bytes(changed)


HARMS = ["gone", "a folder", "manifest", "last byte", "first byte", "header", "cut", "empty"]


def survives(coordinator: Running, harm: str) -> bool:
    """Harm anna's file of release 1; return whether release 2, built again, is what it was."""
    before, kept = contents(release(coordinator, 2)), coordinator.folder.root / "kept"
    # release 2 has the same file: what is harmed must be another copy of it
    first = release(coordinator, 1)
    shutil.copytree(first, kept)
    shutil.rmtree(first)
    shutil.copytree(kept, first)
    try:
        harmed(first / ANNA, harm)
        return built_again(coordinator, 2) == before
    finally:
        shutil.rmtree(first)
        kept.rename(first)
        built_again(coordinator, 2)


@pytest.mark.parametrize("harm", HARMS)
def test_a_file_that_is_not_what_was_signed_is_made_again(filled, harm):
    """Bit rot in data, header or manifest, a file cut short, or none: the right bytes, anew."""
    assert survives(filled, harm)


@pytest.mark.parametrize("name", ["carried-not-hashed"])
def test_a_seeded_bug_of_carrying_is_caught(filled, name, monkeypatch):
    """A file is taken over by its header alone: bit rot would be signed again."""
    with Bug.named(name).in_process():
        monkeypatch.setattr(publisher, "Carried", carried.Carried)
        assert not survives(filled, "last byte")


def test_another_lambda_carries_vectors_over_but_no_lora(tmp_path):
    """Lambda is inside ``up`` and in both headers' content: nothing of it may be taken over."""
    with running(founded(tmp_path)) as coordinator:
        contributed(coordinator, "anna")
        coordinator.release(LAMBDA)
        coordinator.release(LAMBDA + 1)

        assert shared(coordinator, 2) == set()


def test_a_build_that_was_cut_off_harms_no_release_before_it(filled):
    """The half-built folder goes; the files that it shared stay under their first name."""
    first, second = contents(release(filled, 1)), contents(release(filled, 2))
    building = filled.folder.releases / ".2.tmp"
    (building / "concepts").mkdir(parents=True)
    (building / ANNA).hardlink_to(release(filled, 1) / ANNA)

    assert built_again(filled, 2) == second
    assert contents(release(filled, 1)) == first
    assert not building.exists()


def tensors(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the tensor files, and the tokenizer's, by name without the release's number."""
    kept = {n: data for n, data in files.items() if n.endswith("safetensors") or "checkpoint" in n}
    return {re.sub(r"-r\d{4}", "", name): data for name, data in kept.items()}


def test_after_a_withdrawal_the_files_are_those_of_a_release_that_never_had_it(tmp_path):
    """Bert comes and goes; anna's and carl's files are carried over, and all are as if alone."""
    with running(founded(tmp_path)) as coordinator:
        contributed(coordinator, "anna")
        lease, leaf = contributed(coordinator, "bert")
        contributed(coordinator, "carl")
        coordinator.release(LAMBDA)
        facts = coordinator.house.facts
        word = Withdrawal(lease.key.public_hex, facts.spec.id, leaf, facts.log, t=1_790_000_000)
        signed = sign("withdrawal", word.body(), [lease.key])
        Removal(coordinator.house).withdraw(signed.to_bytes())

        coordinator.release(LAMBDA)

        assert shared(coordinator, 2) == own_files("anna", "carl")
        after = contents(release(coordinator, 2))
        assert tensors(after) == tensors(never_had_another(coordinator, tmp_path / "alone"))
    assert not any("bert" in name for name in after)


def test_nothing_is_carried_from_a_folder_of_another_release(filled):
    """The manifest's id is the plan's: a folder put there by somebody else counts for nothing."""
    assert Carried.of(release(filled, 1), "0" * 64).files == {}
    assert Carried.of(filled.folder.releases / "9", "0" * 64).files == {}
