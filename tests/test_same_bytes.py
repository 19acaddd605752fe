"""R10: one release has one set of bytes, whatever the order, the threads, the process, the CPU.

The bytes are also the right ones: every adapted weight and every ``up`` against sums of plain
integers, written here once more.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from orthofed.coordinator import writing
from orthofed.coordinator.base import BaseFolder
from orthofed.coordinator.carried import Carried
from orthofed.coordinator.merging import open_merge
from orthofed.coordinator.publications import Plan
from orthofed.core.basis import integer_block
from orthofed.core.layout import ContributionLayout, unpack
from orthofed.core.lorafile import kohya_key
from orthofed.core.quantise import Quantised
from orthofed.core.stack import shift
from orthofed.core.targets import tensor_names

from .merging_process import digest
from .seeded import Bug
from .serving import FastFs, Running, founded, running

LAMBDA = 1229  # 11 bits and odd: times 15 bits of q it is more than float32 holds
LICENCES = ("MIT", "CC0-1.0", "CC-BY-4.0", "Apache-2.0", "BSD-3-Clause")
SCRIPT = Path(__file__).parent / "merging_process.py"
X86 = {
    "own": {},
    "AVX2": {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL"},
    "SSE": {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL"},
}
INSTRUCTIONS = X86 if platform.machine() == "x86_64" else {"own": {}}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Five concepts of five sizes, hence exponents, and five licences, released at 1.2."""
    with running(founded(tmp_path_factory.mktemp("bytes"))) as coordinator:
        for k, licence in enumerate(LICENCES):
            member = coordinator.member()
            lease = member.lease(f"con-{k}", (f"con{k}-k7",), vectors=(1 + k % 2,))
            packed = member.pack(lease, seed=k, size=0.001 * 3.1**k, licence=licence)
            member.contribute(packed)
            coordinator.packs.append(packed)
        coordinator.release(LAMBDA)
        yield coordinator


def tensors_of(coordinator: Running) -> list[dict[str, Quantised]]:
    """Return the integers of each contribution, slots ascending."""
    spec = coordinator.house.facts.spec
    return [
        unpack(ContributionLayout(spec, packed.lease.vectors), packed.blob)
        for packed in coordinator.packs
    ]


def plan_of(coordinator: Running) -> Plan:
    return Plan.from_bytes(coordinator.desk.ask("plan", {"lambda_1024": LAMBDA})["plan"].encode())


def release(coordinator: Running) -> Path:
    return coordinator.folder.releases / "1"


def wrong_weights(coordinator: Running, checkpoint: Path) -> int:
    """Return how many adapted numbers are not W + dW, dW from a sum of 64-bit integers."""
    spec, parts, wrong = coordinator.house.facts.spec, tensors_of(coordinator), 0
    base = coordinator.folder.settings().base
    stems = {"unet": "unet/diffusion_pytorch_model", "text_encoder": "text_encoder/model"}
    before = {c: load_file(base / f"{stem}.safetensors") for c, stem in stems.items()}
    after = {c: load_file(checkpoint / f"{stem}.safetensors") for c, stem in stems.items()}
    for layer in spec.layers:
        component = layer.path.partition(".")[0]
        name = next(n for n in tensor_names(layer.path) if n in before[component])
        terms = [part[f"a.{layer.path}"] for part in parts]
        low = min(term.exponent for term in terms)
        total = np.zeros((layer.out, layer.width), dtype=np.int64)
        for slot, term in enumerate(terms):
            b = integer_block(
                spec.basis,
                seed=spec.seed,
                layer=layer.path,
                width=layer.width,
                rank=4,
                slot=slot,
            ).astype(np.int64)
            total += (term.q.astype(np.int64) * (LAMBDA << (term.exponent - low))) @ b.T
        change = total.astype(np.float64) * (1.0 / np.sqrt(float(layer.width)) * 2.0 ** (low - 10))
        weight = before[component][name]
        expected = (weight.astype(np.float64) + change).astype(weight.dtype)
        wrong += int((after[component][name] != expected).sum())
    return wrong


def test_the_checkpoint_is_the_sum_of_plain_integers_rounded_once(filled):
    """Five exponents that differ; every adapted number of the release, to the bit."""
    first = filled.house.facts.spec.layers[0].path
    assert len({part[f"a.{first}"].exponent for part in tensors_of(filled)}) > 2

    assert wrong_weights(filled, release(filled) / "checkpoint") == 0


def test_the_stacked_lora_is_each_concepts_integers_rounded_once(filled):
    """Every ``up``: l q 2^(e + k - 10) / sqrt(m), float64 straight to F16."""
    stacked = load_file(release(filled) / "lora" / "wren-fed-r0001.safetensors")

    for layer in filled.house.facts.spec.layers:
        up = stacked[f"{kohya_key(layer.path)}.lora_up.weight"]
        for slot, part in enumerate(tensors_of(filled)):
            term = part[f"a.{layer.path}"]
            factor = np.ldexp(1.0 / np.sqrt(float(layer.width)), term.exponent + shift(layer.width))
            exact = (term.q.astype(np.int64) * LAMBDA).astype(np.float64) * (factor * 2.0**-10)
            assert np.array_equal(up[:, 4 * slot : 4 * slot + 4], exact.astype(np.float16))


def hashes(
    coordinator: Running, scratch: Path, num: int, seed: int, env: dict[str, str]
) -> set[str]:
    """Return the hashes of ``num`` orders, in one process with that environment."""
    plan = scratch / "plan.json"
    plan.write_bytes(plan_of(coordinator).to_bytes())
    words = [sys.executable, "-P", str(SCRIPT), str(coordinator.folder.root), str(plan)]
    done = subprocess.run(
        [*words, str(seed), str(num)], env=env, check=True, capture_output=True, text=True
    )
    return set(json.loads(done.stdout))


def environment(instructions: str, blas_threads: int, hash_seed: int) -> dict[str, str]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(blas_threads))
    given = {**os.environ, "PYTHONHASHSEED": str(hash_seed), **threads}
    return {**given, **INSTRUCTIONS[instructions]}


def in_every_way(coordinator: Running, scratch: Path, num: int) -> set[str]:
    """Return the hashes of ``num`` orders and batches, by instructions and threads of BLAS."""
    found: set[str] = set()
    for k, instructions in enumerate(INSTRUCTIONS):
        for threads in (1, 2):
            env = environment(instructions, threads, hash_seed=2 * k + threads)
            found |= hashes(coordinator, scratch, num, seed=10 * k + threads, env=env)
    return found


def test_order_threads_batches_and_instructions_change_no_byte(filled, tmp_path):
    """Six processes, three orders each: LoRAs, vectors and checkpoint are the release's."""
    assert in_every_way(filled, tmp_path, 3) == {digest(release(filled))}


@pytest.mark.faults
def test_a_thousand_orders_give_one_hash(filled, tmp_path, capsys):
    """R10's figure."""
    found = in_every_way(filled, tmp_path, -(-1_000 // (2 * len(INSTRUCTIONS))))

    with capsys.disabled():
        print(f"\nsame bytes: 1000 orders, {len(INSTRUCTIONS)} instruction sets: {len(found)} hash")
    assert found == {digest(release(filled))}


@pytest.mark.parametrize("name", ["float32-sums", "exponents-not-aligned"])
def test_a_seeded_bug_of_the_sum_is_caught(filled, tmp_path, name):
    """Its own bytes are the same each time, so only the integers tell."""
    plan, facts = plan_of(filled), filled.house.facts
    base = BaseFolder(filled.folder.settings().base)
    nothing = Carried(tmp_path, {})

    with (
        Bug.named(name).in_process(),
        open_merge(facts.spec, plan.included, filled.folder) as merge,
    ):
        list(writing.write_checkpoint(tmp_path, base, merge, carried=nothing, fs=FastFs()))

    assert wrong_weights(filled, tmp_path / "checkpoint") > 0


@pytest.mark.parametrize("name", ["dict-order-in-header"])
def test_a_seeded_bug_of_the_header_is_caught(filled, tmp_path, name):
    """The order of a set depends on the process: two processes, two releases."""
    patched = Bug.named(name).environment(tmp_path / "patched")
    seeds = [{**patched, "PYTHONHASHSEED": str(seed)} for seed in (1, 2, 3)]

    found = [hashes(filled, tmp_path, 1, 0, env) for env in seeds]

    assert len(set.union(*found)) > 1
    shutil.rmtree(tmp_path / "patched")
