"""`verify --rebuild`: a release is what its contributions give, byte for byte, or it is refused.

One federation of three concepts on the tiny base; every case is its release with one change, signed
again by the real keys where the change is the coordinator's own (T25).
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orthofed.client.base_folder import BaseFolder
from orthofed.client.channel import Channel
from orthofed.client.contributions import Contributions, blob_name
from orthofed.client.origin import WireOrigin
from orthofed.client.pull import Pull
from orthofed.client.rebuild import Rebuild
from orthofed.client.seen_heads import SeenHeads
from orthofed.client.trusted_ledger import TrustedRelease
from orthofed.client.verify import verify_folder
from orthofed.core.address import FederationAddress
from orthofed.core.document import from_value, sign
from orthofed.core.errors import InputError, VerificationFailed
from orthofed.core.keys import SigningKey
from orthofed.core.layer import Layer
from orthofed.core.leaf import document_leaf, parse_leaf
from orthofed.core.merge import Term
from orthofed.core.merging import Part
from orthofed.core.release import ReleaseManifest
from orthofed.core.spec import FederationSpec
from orthofed.core.tensorfile import parse_header

from .serving import Running, founded, running

LAMBDA = 614


@dataclass
class Case:
    """One pulled release with all that a rebuild needs, to be changed."""

    folder: Path
    release: TrustedRelease
    base: BaseFolder

    @property
    def manifest(self) -> ReleaseManifest:
        return self.release.manifest

    @property
    def contributions(self) -> Contributions:
        return Contributions(self.folder, self.release)

    def say(self, **changes: Any) -> None:
        """Let the signed manifest say something else: the coordinator holds the keys (T25)."""
        self.release = replace(self.release, manifest=replace(self.manifest, **changes))

    def run(self) -> int:
        return Rebuild(self.contributions).run(self.base)

    def refused(self) -> VerificationFailed:
        with pytest.raises(VerificationFailed) as caught:
            self.run()
        assert caught.value.exit_code == 4
        return caught.value


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Three concepts, one of them with two triggers and several vectors, released at 0.6."""
    with running(founded(tmp_path_factory.mktemp("rebuild"))) as coordinator:
        told = [("anna", ("anna-k7",), (2,)), ("rex", ("rex-p2", "rex-q3"), (1, 3))]
        told.append(("wren", ("wren-cat",), (1,)))
        for seed, (concept, triggers, vectors) in enumerate(told):
            member = coordinator.member()
            packed = member.pack(member.lease(concept, triggers, vectors=vectors), seed=seed)
            member.contribute(packed)
            coordinator.packs.append(packed)
        coordinator.release(LAMBDA)
        yield coordinator


@pytest.fixture(scope="module")
def pulled(filled: Running, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the release as `orthofed pull --contributions` leaves it."""
    out = tmp_path_factory.mktemp("pulled") / "release-1"
    pull(filled, out)
    return out


def pull(coordinator: Running, out: Path, n: int = 0) -> None:
    address = FederationAddress.from_text(coordinator.desk.link())
    with Channel(address.host_port, ca=address.ca, log=address.log) as channel:
        Pull(WireOrigin(channel), address.log, out, SeenHeads(out.parent / "home")).run(
            n, contributions=True
        )


@pytest.fixture
def case(filled: Running, pulled: Path, tmp_path: Path) -> Case:
    """Return a copy of the pulled release."""
    folder = Path(shutil.copytree(pulled, tmp_path / "release-1"))
    release = verify_folder(folder).release
    return Case(folder, release, BaseFolder(filled.folder.settings().base))


def flip(path: Path, place: int, bit: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= bit
    path.write_bytes(data)


def test_an_honest_release_is_rebuilt_to_the_last_byte(case: Case) -> None:
    """Every file but the manifest is derived, and their bytes add up."""
    files = [p for p in case.folder.rglob("*") if p.is_file() and "trust" not in p.parts]

    assert case.run() == sum(p.stat().st_size for p in files if p.name != "manifest.json")
    assert {entry.name for entry in case.manifest.files} == {
        p.relative_to(case.folder).as_posix() for p in files
    } - {"manifest.json"}


def test_a_changed_lora_names_its_tensor_and_both_values(case: Case) -> None:
    """T25: a compromised coordinator signs a release whose LoRA follows from no contribution."""
    path = case.folder / "lora" / "wren-fed-r0001.safetensors"
    data = path.read_bytes()
    info = next(
        t for t in parse_header(data, file_size=len(data)).tensors if t.name.endswith("up.weight")
    )
    start = parse_header(data, file_size=len(data)).data_start + info.offset
    before = np.frombuffer(data[start + 10 : start + 12], "<f2")[0]
    flip(path, start + 11, 0x80)  # the sign of entry 5

    refused = case.refused()

    assert f"tensor {info.name}, entry 5" in refused.what
    assert f"{-before:.6g} published, {before:.6g} rebuilt" in refused.what
    assert refused.code == "rebuild-failed"


FILES: list[tuple[str, str]] = [
    ("concepts/wren-fed-rex.safetensors", "tensor"),
    ("lora/wren-fed-r0001-a1111.safetensors", "tensor"),
    ("diffusers/pytorch_lora_weights.safetensors", "tensor"),
    ("peft/text_encoder/adapter_model.safetensors", "tensor"),
    ("peft/unet/adapter_config.json", "byte"),
    ("embeddings/anna-k7.safetensors", "tensor anna-k7"),
    ("checkpoint/unet/diffusion_pytorch_model.safetensors", "tensor"),
    ("checkpoint/text_encoder/model.safetensors", "tensor"),
    ("checkpoint/vae/diffusion_pytorch_model.safetensors", "the base model's own file"),
    ("checkpoint/tokenizer/added_tokens.json", "byte"),
    ("checkpoint/model_index.json", "the base model's own file"),
    ("info.json", "byte"),
    ("card.md", "byte"),
]


@pytest.mark.parametrize(("name", "told"), FILES, ids=[name for name, _ in FILES])
def test_one_bit_in_any_kind_of_file_is_found(name: str, told: str, case: Case) -> None:
    """Near the end of each, so that all before it was compared."""
    path = case.folder / name
    flip(path, path.stat().st_size - 3)

    refused = case.refused()

    assert f"check failed: rebuild: {name} differs" in refused.what
    assert told in refused.what


def test_a_value_in_a_header_that_follows_from_nothing_is_named(case: Case) -> None:
    """The licence in the LoRA's header is another one of the same length."""
    path = case.folder / "lora" / "wren-fed-r0001.safetensors"
    path.write_bytes(path.read_bytes().replace(b"CC-BY-4.0", b"CC-BY-3.0", 1))

    assert "the header of lora/wren-fed-r0001.safetensors differs in modelspec.license" in (
        case.refused().what
    )


def test_a_lambda_that_was_not_used_is_found(case: Case) -> None:
    """The manifest says 615/1024 for the second concept, the files were made with 614."""
    (one, a), (other, b), *rest = case.manifest.contributions
    case.say(contributions=((one, a), (other, b + 1), *rest))

    assert "lora/wren-fed-r0001.safetensors differs" in case.refused().what


def test_a_contribution_that_was_dropped_is_found(case: Case) -> None:
    """The manifest lists two of the three that the files hold."""
    case.say(contributions=case.manifest.contributions[:2])

    assert "lora/wren-fed-r0001.safetensors has" in case.refused().what


def test_a_file_that_follows_from_nothing_is_refused(case: Case) -> None:
    """Listed and signed, and no contribution gives it."""
    entry = replace(case.manifest.files[0], name="lora/more.safetensors")
    files = tuple(sorted((*case.manifest.files, entry), key=lambda e: e.name))
    case.say(files=files)

    assert "lora/more.safetensors is in the release and follows from nothing" in case.refused().what


def test_a_file_that_is_left_out_is_refused(case: Case) -> None:
    """The release lacks one concept's own file."""
    files = tuple(e for e in case.manifest.files if "rex.safetensors" not in e.name)
    case.say(files=files)

    assert "concepts/wren-fed-rex.safetensors is missing" in case.refused().what


def test_one_bit_in_a_contribution_is_found(case: Case) -> None:
    """Its SHA-256 is not the one that the client signed; the concept is named."""
    leaf = case.manifest.contributions[1][0]
    flip(case.folder / blob_name(leaf), 5000)

    refused = case.refused()

    assert f"check failed: contribution: the blob of contribution {leaf} (rex)" in refused.what


def forge(case: Case, leaf: int, body: bytes) -> None:
    """Let the ledger hold ``body`` at ``leaf``: whoever has all the operator's keys can (T25)."""
    signed = from_value(parse_leaf(body)["doc"], kind="contribution")
    contributions = {**case.release.contributions, leaf: signed}
    case.release = replace(case.release, contributions=contributions)


def test_every_byte_of_a_contribution_in_the_ledger_counts(case: Case) -> None:
    """T4: body, key and signature, each byte flipped once, in a ledger that holds just that."""
    leaf = case.manifest.contributions[0][0]
    body = document_leaf(case.contributions.document(leaf))
    forge(case, leaf, body)
    assert case.contributions.check_signatures() == 3  # the forger's ledger is good

    def read(forged: bytes) -> None:
        forge(case, leaf, forged)
        case.contributions.check_signatures()

    for place in range(len(body)):
        with pytest.raises(VerificationFailed):
            read(body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :])


def test_a_contribution_that_another_key_signed_is_refused(case: Case) -> None:
    """T4: the coordinator signs for its member with a key of its own; the manifest names one."""
    leaf = case.manifest.contributions[0][0]
    body = case.contributions.document(leaf).body
    forged = sign("contribution", body, [SigningKey.from_seed(b"\x63" * 32)])
    forge(case, leaf, document_leaf(forged))

    assert "signed by its client key alone" in case.refused().what


def test_a_contribution_trained_against_another_block_is_refused(
    case: Case, filled: Running
) -> None:
    """T11: signed by its own client, and with the fingerprint of a slot that it does not have."""
    leaf = case.manifest.contributions[0][0]
    body = case.contributions.document(leaf).body
    other = case.contributions.manifest(case.manifest.contributions[1][0]).basis
    forged = sign("contribution", {**body, "basis": other}, [filled.packs[0].lease.key])
    forge(case, leaf, document_leaf(forged))

    assert f"contribution {leaf} was trained against another block than slot 0's" in (
        case.refused().what
    )


def test_a_contribution_that_is_left_out_is_its_clients_too(case: Case) -> None:
    """T4: one that no file of the release holds, in a ledger that somebody else signed for."""
    body = case.contributions.document(case.manifest.contributions[0][0]).body
    forge(case, 99, document_leaf(sign("contribution", body, [SigningKey.from_seed(b"\x63" * 32)])))

    assert "signed by its client key alone" in case.refused().what


FORGED: dict[str, tuple[dict[str, object], str]] = {
    "of another ledger": ({"log": "7" * 64}, "names another log or federation"),
    "of another federation": ({"fed": "7" * 64}, "names another log or federation"),
    "sealed": (
        {"form": "private", "plain": "1" * 64, "wraps": "2" * 64},
        "is private, and a release holds public ones only",
    ),
}


@pytest.mark.parametrize(("changes", "said"), FORGED.values(), ids=list(FORGED))
def test_a_contribution_that_its_client_signed_for_elsewhere_is_refused(
    changes: dict[str, object], said: str, case: Case, filled: Running
) -> None:
    """T4, T25: the right key, on a word that was never meant for a file of this release."""
    leaf = case.manifest.contributions[0][0]
    body = case.contributions.document(leaf).body
    forge(
        case,
        leaf,
        document_leaf(sign("contribution", {**body, **changes}, [filled.packs[0].lease.key])),
    )

    assert said in case.refused().what


def test_two_contributions_of_one_slot_are_refused(case: Case, filled: Running) -> None:
    """Both signed by their clients, the second for the first one's slot: a merge would add them."""
    first, second = (leaf for leaf, _ in case.manifest.contributions[:2])
    there = case.contributions.manifest(first)
    body = {**case.contributions.document(second).body, "slot": there.slot, "basis": there.basis}
    forge(case, second, document_leaf(sign("contribution", body, [filled.packs[1].lease.key])))

    assert "3 contributions in 2 slots" in case.refused().what


def test_another_base_is_refused_before_anything_is_compared(case: Case, tmp_path: Path) -> None:
    """Exit code 2 and the name of the right one: nobody lied."""
    other = tmp_path / "base"
    shutil.copytree(case.base.root, other)
    flip(next((other / "unet").glob("*.safetensors")), -1)

    case.base = BaseFolder(other)

    with pytest.raises(InputError, match="tiny, revision local") as caught:
        case.run()

    assert caught.value.exit_code == 2


def test_without_the_contributions_the_next_step_is_said(case: Case) -> None:
    """A plain pull fetches none; the error names the command."""
    shutil.rmtree(case.folder / "trust" / "contributions")

    with pytest.raises(InputError, match="--contributions"):
        case.run()


def test_a_plain_verify_covers_the_contributions_too(case: Case) -> None:
    """Law 8 of formats.md 2: one bit, one file too many, one of another leaf: exit code 4."""
    leaf = case.manifest.contributions[2][0]
    blob = case.folder / blob_name(leaf)
    for place in (100, -1):
        before = blob.read_bytes()
        flip(blob, place)
        with pytest.raises(VerificationFailed, match="check failed: file hash"):
            verify_folder(case.folder)
        blob.write_bytes(before)
    shutil.copy(blob, case.folder / blob_name(leaf + 1))

    with pytest.raises(VerificationFailed, match="is not part of the release"):
        verify_folder(case.folder)


def test_contributions_are_added_to_a_release_that_is_there(filled: Running, case: Case) -> None:
    """A second pull into the same folder fetches what is missing or damaged, and nothing else."""
    leaves = [leaf for leaf, _ in case.manifest.contributions]
    good = (case.folder / blob_name(leaves[1])).read_bytes()
    (case.folder / blob_name(leaves[0])).unlink()
    flip(case.folder / blob_name(leaves[1]), 7)
    kept = (case.folder / blob_name(leaves[2])).stat().st_mtime_ns

    pull(filled, case.folder)

    verify_folder(case.folder)
    assert (case.folder / blob_name(leaves[1])).read_bytes() == good
    assert (case.folder / blob_name(leaves[2])).stat().st_mtime_ns == kept


def test_the_command_rebuilds_and_says_so(case: Case) -> None:
    """Exit code 0 with `rebuilt`, 2 without --base."""
    command = [sys.executable, "-P", "-m", "orthofed", "verify", str(case.folder), "--rebuild"]
    base = ["--base", str(case.base.root)]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *more], capture_output=True, text=True, check=False)

    good, bare = run("--json", *base), run()

    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["rebuilt"] is True
    assert (bare.returncode, "--base" in bare.stderr) == (2, True)


def test_a_thief_of_all_keys_gets_nothing_past_a_rebuild(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T25: the coordinator merges one concept with a weight that it does not say.

    Its files agree with one another, the real release key signs them and the real ledger holds
    them, so a plain verify has nothing to object to.
    """

    def stronger(part: Part, spec: FederationSpec, layer: Layer) -> Term:
        term = honest(part, spec, layer)
        return replace(term, lambda_1024=term.lambda_1024 + (part.manifest.concept == "bert"))

    honest = Part.term
    with running(founded(tmp_path)) as coordinator:
        for seed, name in enumerate(("anna", "bert")):
            member = coordinator.member()
            member.contribute(member.pack(member.lease(name, (f"{name}-k7",)), seed=seed))
        monkeypatch.setattr(Part, "term", stronger)
        coordinator.release(LAMBDA)
        monkeypatch.undo()
        pull(coordinator, tmp_path / "release-1")
        base = BaseFolder(coordinator.folder.settings().base)

    release = verify_folder(tmp_path / "release-1").release
    refused = Case(tmp_path / "release-1", release, base).refused()

    assert "lora/wren-fed-r0001.safetensors differs in tensor" in refused.what
    assert (refused.code, refused.exit_code) == ("rebuild-failed", 4)
