"""`orthofed audit` where slots of several bases overlap: what it can tell, and where it must not.

Rank 4 gives six slots a basis on the tiny base, whose narrowest layers have 24 inputs: with more
than six concepts those cannot be told apart there, in layers of 48 and more they can.
"""

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orthofed.client.audit import Audit, Leased
from orthofed.client.audit_file import Audited
from orthofed.client.audit_view import as_dict, as_text
from orthofed.client.contributions import FOLDER, Contributions
from orthofed.client.verify import verify_folder
from orthofed.core.change import Dense, LowRank
from orthofed.core.extraction import extract, summed
from orthofed.core.layer import Layer
from orthofed.core.lorafile import kohya_key
from orthofed.core.merge import Term, residual
from orthofed.core.rounding import DType, apply, exact, round_once
from orthofed.core.spec import FederationSpec
from orthofed.core.spec_blocks import block, slot_block
from orthofed.core.stack import stacked

from .serving import Running, founded, running
from .test_audit import LAMBDA, House, cast, verdicts, write
from .test_epochs import spec_of
from .test_extraction import quantised
from .test_rebuild import pull

LORA = "lora/wren-fed-r0001.safetensors"
WIDE = Layer("unet.a", 40, 48)


def sent_of(slots: Sequence[int], layer: Layer) -> dict[int, np.ndarray]:
    found: dict[int, np.ndarray] = {}
    for slot in slots:
        a = quantised(slot, 0.01, layer)
        found[slot] = np.ldexp(a.q.astype(np.float64), a.exponent)
    return found


def terms_of(spec: FederationSpec, slots: Sequence[int], layer: Layer, size: float) -> list[Term]:
    found: list[Term] = []
    for slot in slots:
        a = quantised(slot, size, layer)
        found.append(Term(a.q, a.exponent, 1024, slot_block(spec, layer, slot)))
    return found


def change_of(
    spec: FederationSpec,
    slots: Sequence[int],
    layer: Layer,
    dtype: DType,
    kind: str,
    *,
    size: float = 0.01,
) -> LowRank | Dense:
    terms = terms_of(spec, slots, layer, size)
    shape = {"family": spec.basis, "width": layer.width, "out": layer.out}
    if kind == "lora":
        up, down = stacked(terms, dtype=dtype, **shape)
        return LowRank(exact(up, dtype), exact(down, dtype), dtype)
    random = np.random.default_rng(9)
    weight = round_once(random.standard_normal((layer.out, layer.width)) * 0.03, dtype)
    return Dense.between(
        weight, apply(weight, residual(terms, **shape), dtype), dtypes=(dtype, dtype)
    )


MIXED = [(0, 12), (0, 1, 2, 13, 14), (*range(11), 12), (*range(4), *range(12, 20))]
"""Slots of two bases of twelve: few, some, and as many columns as the layer has, twice."""


@pytest.mark.parametrize("slots", MIXED, ids=["2", "5", "12", "12-even"])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("kind", ["lora", "dense"])
def test_slots_whose_columns_are_independent_are_found_within_an_honest_floor(
    slots: Sequence[int], dtype: DType, kind: str
) -> None:
    """Through the inverse: its floor grows with what the inverse enlarges, and errors stay in it.

    Twelve slots use all 48 columns: the last block of another basis then leans on the others.
    """
    spec = spec_of(WIDE)
    change, sent = change_of(spec, slots, WIDE, dtype, kind), sent_of(slots, WIDE)

    found = extract(spec, WIDE, change, leased=slots)

    assert found.apart
    for slot in slots:
        error = float(np.linalg.norm(found.slots[slot].a - sent[slot]))
        assert error < found.slots[slot].floor, slot
    assert found.outside**0.5 <= found.floor
    whole = sum(part.energy for part in found.slots.values()) + found.outside
    assert whole == pytest.approx(found.energy, rel=1e-6)
    assert found.free is None
    size = max(part.enlarged for part in found.slots.values())
    assert size > 1
    if kind == "dense":  # a LoRA's own columns are found as they stand, whatever the others are
        plain = min(part.floor / part.enlarged for part in found.slots.values())
        assert max(part.floor for part in found.slots.values()) > plain * size / 2


def test_slots_of_one_basis_need_no_inverse_whichever_it_is() -> None:
    """Their floor is that of a disjoint federation, to the bit."""
    spec, one = spec_of(WIDE), spec_of(WIDE, epochs=1)
    own = change_of(one, (0, 3), WIDE, "F16", "dense")

    mine, theirs = (extract(s, WIDE, own, leased=(0, 3)) for s in (spec, one))
    late = extract(spec, WIDE, change_of(spec, (12, 15), WIDE, "F16", "lora"), leased=(12, 15))

    assert mine.slots[3].floor == theirs.slots[3].floor
    assert mine.slots[3].enlarged == late.slots[15].enlarged == 1.0
    assert late.outside**0.5 <= late.floor


def test_more_columns_than_a_layer_has_tell_nothing_of_a_slot() -> None:
    """Thirteen slots of four in 48 columns: none is found, and nothing is outside."""
    spec, slots = spec_of(WIDE), tuple(range(13))

    found = extract(spec, WIDE, change_of(spec, slots, WIDE, "F16", "lora"), leased=slots)

    assert not found.apart
    assert (dict(found.slots), found.outside, found.free) == ({}, 0.0, None)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("kind", ["lora", "dense"])
def test_what_was_sent_adds_up_to_an_honest_file_and_to_no_other(dtype: DType, kind: str) -> None:
    """All of them, and any of them; not 5 % more of one, nor a stranger."""
    spec, slots = spec_of(WIDE), tuple(range(20))
    sent = sent_of(slots, WIDE)
    for held in (slots, slots[3:], (0, 5, 19), (17,)):
        found = summed(spec, WIDE, change_of(spec, held, WIDE, dtype, kind), sent)
        assert found.off < found.floor
        if dtype != "BF16" or kind == "lora":  # there rounding is as loud as a concept
            assert (found.held, found.absent) == (set(held), set(slots) - set(held))

    honest = change_of(spec, slots, WIDE, dtype, kind)
    more = block(spec, WIDE, 7).astype(np.float64)
    factor = 0.5 if dtype == "BF16" else 0.05
    if isinstance(honest, LowRank):
        up = np.concatenate([honest.up, sent[7] * factor], axis=1)
        changed = replace(honest, up=up, down=np.concatenate([honest.down, more.T]))
    else:
        changed = replace(honest, change=honest.change + sent[7] * factor @ more.T)
    off = summed(spec, WIDE, changed, sent)
    assert off.off > off.floor
    assert off.off == pytest.approx(np.linalg.norm(sent[7]) * factor, rel=0.3)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("overlap")


@pytest.fixture(scope="module")
def full(place: Path) -> House:
    """Eight concepts on two bases of six slots: two layers' widths differ in what they tell."""
    with running(founded(place, epochs=2, seed=bytes(32))) as coordinator:
        return house(place, coordinator, 8)


def house(path: Path, coordinator: Running, concepts: int) -> House:
    for seed in range(concepts):
        member = coordinator.member()
        name = f"fox-{seed}"
        member.contribute(member.pack(member.lease(name, (f"{name}-k7",)), seed=seed))
    coordinator.release(LAMBDA)
    pull(coordinator, path / "pulled")
    made_of = Contributions(path / "pulled", verify_folder(path / "pulled").release)
    return House(path / "pulled", made_of, coordinator.folder.settings().base)


def without_contributions(full: House, folder: Path, left_out: int = 99) -> House:
    copy = Path(shutil.copytree(full.folder, folder))
    blobs = sorted((copy / FOLDER).glob("*.safetensors"))
    assert len(blobs) == 8
    for number, blob in enumerate(blobs):
        if left_out in {99, number}:
            blob.unlink()
    if left_out == 99:
        (copy / FOLDER).rmdir()
    return House(copy, Contributions(copy, verify_folder(copy).release), full.base)


def narrow(full: House) -> list[Layer]:
    return [layer for layer in full.spec.layers if layer.width < 8 * 4]


@pytest.mark.parametrize("file", [LORA, "checkpoint"])
def test_an_honest_file_of_overlapping_concepts_is_clean_with_all_contributions(
    full: House, file: str
) -> None:
    """Where slots can be told apart each matches; elsewhere what was sent adds up."""
    audited = full.audit(full.folder / file)
    found = audited.findings

    assert (full.spec.capacity, full.spec.disjoint_slots) == (12, 6)
    assert verdicts(audited) == ["matches"] * 8
    assert found.clean
    assert found.told
    assert (found.together.summed, found.together.untold) == (len(narrow(full)), 0)
    assert 0 < len(narrow(full)) < found.layers
    shares = [each.share for each in found.slots if each.share is not None]
    assert sum(shares) + found.outside.share == pytest.approx(1, abs=1e-6)
    text = as_text(audited, full.made_of.release.manifest)
    assert "slots of several bases overlap" in text
    assert f"in {len(narrow(full))} of {found.layers} layers no slot can be told" in text
    assert "all contributions add up to the file" in text
    assert "free slots" not in text
    assert as_dict(audited, full.made_of.release.manifest)["outside"]["free_slots"] is None


def test_without_contributions_it_neither_accuses_nor_claims(full: House, tmp_path: Path) -> None:
    """Exit code 1, and what still proves the release; with them 0, with a stranger 4."""
    bare = without_contributions(full, tmp_path / "bare")
    audited = bare.audit(bare.folder / LORA)

    assert set(verdicts(audited)) == {"not compared"}
    assert not audited.findings.refuted
    assert not audited.findings.told
    assert not audited.findings.clean
    assert audited.findings.together.untold == len(narrow(full))
    text = as_text(audited, bare.made_of.release.manifest)
    assert "cannot be told" in text.splitlines()[-1]
    assert "--contributions, or verify its folder with --rebuild" in text
    assert "not what the release says" not in text
    assert "is a contribution's, as the release says" not in text

    def run(release: Path, file: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "orthofed", "audit", str(file), "--json"]
        return subprocess.run(
            [*command, "--release", str(release)], capture_output=True, text=True, check=False
        )

    tensors = full.lora()
    tensors["more.diff"] = ("F16", np.ones(2, "<f2"))
    strange = write(tmp_path / "strange.safetensors", tensors)
    done = [run(bare.folder, bare.folder / LORA), run(full.folder, full.folder / LORA)]
    done.append(run(bare.folder, strange))
    assert [each.returncode for each in done] == [1, 0, 4]
    said = [json.loads(each.stdout) for each in done]
    assert [(each["clean"], each["told"]) for each in said[:2]] == [(False, False), (True, True)]


def test_one_contribution_short_of_all_leaves_those_layers_open(full: House, tmp_path) -> None:
    """The sum of seven says nothing of eight: seven match elsewhere, and the file is left open."""
    short = without_contributions(full, tmp_path / "short", left_out=3)
    audited = short.audit(short.folder / LORA)

    assert sorted(verdicts(audited)) == ["matches"] * 7 + ["not compared"]
    assert not audited.findings.told
    assert not audited.findings.refuted


def test_a_file_of_some_concepts_is_an_honest_one(full: House) -> None:
    """One concept's own file: it is there and the others are not, in every layer."""
    for number, path in enumerate(sorted((full.folder / "concepts").glob("*.safetensors"))):
        audited = full.audit(path)
        wanted = ["absent"] * 8
        wanted[number] = "matches"
        assert verdicts(audited) == wanted, path.name
        assert audited.findings.clean


def changed_up(full: House, path: Path, layer: Layer, columns: slice, factor: float) -> Audited:
    tensors = full.lora()
    tensors[f"{kohya_key(layer.path)}.lora_up.weight"][1][:, columns] *= np.float16(factor)
    return full.audit(write(path, tensors))


def test_a_change_in_a_layer_that_tells_nothing_of_slots_is_seen(full: House, tmp_path) -> None:
    """A twentieth more of one concept: the layer is named, nobody is accused.

    All of it gone: the concept is in other layers, so it differs in this one.
    """
    layer = narrow(full)[1]
    more = changed_up(full, tmp_path / "x.safetensors", layer, slice(8, 12), 1.05)
    gone = changed_up(full, tmp_path / "y.safetensors", layer, slice(8, 12), 0.0)

    assert more.findings.together.layer == layer.path
    assert (more.findings.refuted, more.findings.clean) == (True, False)
    assert verdicts(more) == ["matches"] * 8
    assert "off most in" in as_text(more, full.made_of.release.manifest)
    assert verdicts(gone) == ["matches"] * 2 + ["differs"] + ["matches"] * 5
    assert gone.findings.slots[2].layer == layer.path
    assert gone.findings.refuted


def test_a_change_in_a_layer_that_tells_slots_apart_names_the_slot(full: House, tmp_path) -> None:
    layer = next(layer for layer in full.spec.layers if layer.width >= 8 * 4)
    audited = changed_up(full, tmp_path / "x.safetensors", layer, slice(24, 28), 1.02)

    assert verdicts(audited) == ["matches"] * 6 + ["differs"] + ["matches"]
    assert audited.findings.slots[6].layer == layer.path
    assert audited.findings.slots[6].leased.slot == 6


def test_a_copy_in_another_type_still_matches(full: House, tmp_path: Path) -> None:
    for dtype in ("F32", "BF16"):
        audited = full.audit(write(tmp_path / f"{dtype}.safetensors", cast(full.lora(), dtype)))

        assert audited.findings.clean, dtype


def test_where_no_layer_tells_slots_apart_the_sum_still_proves_the_file() -> None:
    """Spec of narrow layers alone, by hand: every verdict is that of the sum."""
    spec, slots = spec_of(WIDE), tuple(range(13))
    leased = tuple(Leased(s, s, f"c{s}", "ab", 1024, ((s, 1024),)) for s in slots)

    class At:
        def __init__(self, a: np.ndarray) -> None:
            self._a = a

        def sent(self, _layer: Layer) -> np.ndarray:
            return self._a

    for held, known, wanted in (
        (slots, slots, ["in the sum"] * 13),
        (slots[1:], slots, ["absent"] + ["in the sum"] * 12),
        (slots, slots[1:], ["cannot be told"] * 13),
    ):
        parts = {s: At(a) for s, a in sent_of(known, WIDE).items()}
        audit = Audit(spec, leased, parts)  # pyright: ignore[reportArgumentType]
        audit.add(WIDE, change_of(spec, held, WIDE, "F16", "lora"))
        found = audit.findings()
        assert [each.verdict for each in found.slots] == wanted
        assert all(each.share is None for each in found.slots)
        assert (found.clean, found.refuted) == (len(known) == 13, False)


def test_a_concept_that_the_overlap_drowns_is_not_called_absent() -> None:
    """A bfloat16 checkpoint, a tenth of the usual A, and six blocks that lean on six others.

    Their floors are seventeen times those of disjoint slots, and above the concepts themselves.
    """
    spec, slots = spec_of(WIDE), (*range(6), *range(12, 18))
    leased = tuple(Leased(s, s, f"c{s}", "ab", 1024, ((s, 1024),)) for s in slots)
    audit = Audit(spec, leased, {})
    audit.add(WIDE, change_of(spec, slots, WIDE, "BF16", "dense", size=0.001))
    found = audit.findings()

    assert "cannot be told" in {each.verdict for each in found.slots}
    assert "absent" not in {each.verdict for each in found.slots}
    assert (found.told, found.refuted) == (False, False)


def test_every_pair_of_bases_is_told_by_its_own_columns() -> None:
    """Three bases: a change by a slot of one is found in that slot, and in none of the others."""
    spec = spec_of(WIDE, epochs=3)
    for one, other in itertools.combinations((0, 12, 24), 2):
        change = change_of(spec, (one,), WIDE, "F32", "lora")
        found = extract(spec, WIDE, change, leased=(one, other))
        assert float(np.linalg.norm(found.slots[other].a)) <= found.slots[other].floor
        assert found.slots[one].energy == pytest.approx(found.energy, rel=1e-6)
