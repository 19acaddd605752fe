"""Admission: planted attacks that it catches, and honest concepts that it accuses.

    python benchmarks/admission.py --json            # with trained contributions (admission_set.py)

Claim (issue 5): attacks at the strengths of security.md are caught in 98 of 100 cases or more, at
most 1 of 100 honest ones is accused, on the shipped base with trained contributions. Honest: every
concept against all others, and all of them admitted one after the other. An attack changes one
trained contribution and leaves its own concept in place; it counts as caught when the gates of the
coordinator (numpy) or, in the second table, the worker on the base say so, with the defaults of
coordinator/policy.py. Adaptive attacks know the gates; their rows are reported, whatever they say.
"""

import argparse
import datetime as dt
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from admission_attacks import Tensors, acting, changed, copied, louder, random_a
from admission_names import look_alikes
from admission_set import ASSETS, spec_of
from circumstances import commit, hardware

from orthofed.admission.measure import Measurer, Subject
from orthofed.client.base import Base
from orthofed.client.captions import PLACE, TEMPLATES
from orthofed.client.tokens import Trigger
from orthofed.client.variant import Variant
from orthofed.coordinator import admission
from orthofed.coordinator.base import BaseFolder
from orthofed.coordinator.judge import Measured, judge, judge_measured
from orthofed.coordinator.neighbours import Neighbour
from orthofed.coordinator.policy import Policy
from orthofed.core.crosstalk import Heard, response, share, text_readers
from orthofed.core.errors import ContributionRejected
from orthofed.core.layout import ContributionLayout, pack, unpack
from orthofed.core.quantise import dequantise
from orthofed.core.sizes import Sizes

Make = Callable[[int, int], Tensors]
"""From victim and attacker to the attacker's tensors."""
STRENGTHS = (0.2, 0.3, 0.5, 1.0)


class House:
    """One federation's honest contributions, and the gates as the coordinator applies them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.base = Base.load(options.base)
        self.spec = spec_of(options.base, 0, options.rank)
        self.layout = ContributionLayout(self.spec, (2,))
        folder = BaseFolder(options.base)
        self.norms = folder.measures(self.spec)
        names = sorted(path.name for path in options.concepts.iterdir() if path.is_dir())
        self.honest: dict[int, Tensors] = {}
        for slot, name in enumerate(names):
            found = sorted(options.work.glob(f"{name}-*.blob"))
            if found:
                self.honest[slot] = dict(unpack(self.layout, found[0].read_bytes()))
        self.names = names
        self.policy = Policy()
        self.heard = {slot: self.heard_of(slot, t) for slot, t in self.honest.items()}
        self.scratch = Path(tempfile.mkdtemp()) / "blob"
        self.layers = {slot: self.sizes(t).layers for slot, t in self.honest.items()}

    def heard_of(self, slot: int, tensors: Tensors) -> Heard:
        a = {x.path: dequantise(tensors[f"a.{x.path}"]) for x in text_readers(self.spec)}
        return Heard(slot, a, dequantise(tensors["probe.0"]))

    def pairs(self) -> list[tuple[int, int]]:
        return list(itertools.permutations(self.honest, 2))

    def sizes(self, tensors: Tensors) -> Sizes:
        """Return the sizes of a blob, through the very check of a Commit; raises when refused."""
        self.scratch.write_bytes(pack(self.layout, tensors))
        return admission.check_blob(
            self.scratch,
            self.layout,
            sha256=admission.hashlib.sha256(self.scratch.read_bytes()).hexdigest(),
            norms=self.norms,
            policy=self.policy,
        )

    def neighbours(self, slot: int, tensors: Tensors, others: Sequence[int]) -> list[Neighbour]:
        own = self.heard_of(slot, tensors)
        here = response(self.spec, own, own.probes)
        found = []
        for leaf in others:
            other = self.heard[leaf]
            there = response(self.spec, other, other.probes)
            to_it = _worst(share(there, response(self.spec, own, other.probes)))
            from_it = _worst(share(here, response(self.spec, other, own.probes)))
            alike = 100 * max(
                _cosine(_flat(tensors, "embed."), _flat(self.honest[leaf], "embed.")),
                _cosine(_of(own), _of(other)),
            )
            found.append(Neighbour(leaf, self.names[leaf], "accepted", to_it, from_it, alike))
        return found

    def caught(self, slot: int, tensors: Tensors) -> str:
        """Return the code that stops it beside all other honest ones, or nothing."""
        try:
            sizes = self.sizes(tensors)
        except ContributionRejected as error:
            return error.code
        others = [other for other in self.honest if other != slot]
        near = self.neighbours(slot, tensors, others)
        usual = [self.layers[other] for other in others]
        found = judge(sizes, near, self.policy, usual=usual, is_first=False)
        return found.findings[0].code if found.findings else ""


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    started_s = time.monotonic()
    house = House(options)
    result = {
        "schema": "orthofed.admission-benchmark/1",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/admission.py", *sys.argv[1:]]),
        "commit": commit(),
        "hardware": hardware(),
        "concepts": [house.names[slot] for slot in house.honest],
        "policy": {k: getattr(house.policy, k) for k in Policy.__slots__},
        "names": look_alikes(),
        "honest": _honest(house),
        "attacks": _attacks(house),
        "together": _together(house),
        "worker": _worker(house, options.worker),
        "seconds": 0.0,
    }
    result["seconds"] = round(time.monotonic() - started_s, 1)
    print(json.dumps(result, indent=2) if options.json else json.dumps(result["attacks"]))


def _honest(house: House) -> dict[str, object]:
    """Return what the honest ones measure, and whom the gates accuse as they come in one by one."""
    sizes = {slot: house.sizes(tensors) for slot, tensors in house.honest.items()}
    accused, shares, alike, sums = [], [], [], []
    for count, (slot, tensors) in enumerate(house.honest.items()):
        before = list(house.honest)[:count]
        others = house.neighbours(slot, tensors, before)
        usual = [house.layers[other] for other in before]
        found = judge(sizes[slot], others, house.policy, usual=usual, is_first=False)
        accused += [f.code for f in found.findings]
        shares += [x for n in others for x in (n.to_it, n.from_it)]
        alike += [n.alike for n in others]
        everyone = [other for other in house.honest if other != slot]
        sums.append(sum(n.from_it for n in house.neighbours(slot, tensors, everyone)))
    layers = np.array([each.layers for each in sizes.values()])
    return {
        "contributions": len(house.honest),
        "ordered_pairs": len(shares),
        "accused": accused,
        "pairs_above": {
            f"{bound:g}": sum(abs(x) > bound for x in shares) for bound in (5, 10, 15, 20, 25)
        },
        "largest_share": round(max(map(abs, shares)), 2),
        "largest_sum": round(max(map(abs, sums)), 2),
        "largest_likeness": round(max(alike), 2),
        "norm_percent": [round(float(x), 1) for x in layers.max(axis=1)],
        "embedding_percent": [round(each.embedding_percent, 1) for each in sizes.values()],
        "budget_percent": round(float(np.sqrt(np.square(layers).sum(axis=0)).max()), 1),
    }


def _attacks(house: House) -> dict[str, object]:
    spec, honest, heard = house.spec, house.honest, house.heard
    pairs = house.pairs()
    few = [pair for pair in pairs if (pair[1] - pair[0]) % len(house.names) in (1, 5)]
    table: dict[str, object] = {}

    def row(
        name: str, made: Callable[[int, int], Tensors], which: Sequence[tuple[int, int]]
    ) -> None:
        codes = [house.caught(j, made(i, j)) for i, j in which]
        table[name] = {
            "planted": len(codes),
            "caught": sum(bool(code) for code in codes),
            "percent": round(100 * sum(bool(code) for code in codes) / len(codes), 1),
            "by": {code: codes.count(code) for code in sorted({*codes} - {""})},
        }
        print(name, table[name], file=sys.stderr, flush=True)

    for s, sign in itertools.product(STRENGTHS, (-1, 1)):
        row(
            f"{'cancel' if sign < 0 else 'repeat'} {s:g}",
            lambda i, j, x=s * sign: acting(
                spec, (j, honest[j]), (i, honest[i]), x, on=heard[i].probes
            ),
            pairs if sign < 0 else few,
        )
    for factor in (2, 3, 5, 10):
        row(f"all A x {factor}", lambda _i, j, f=factor: louder(spec, honest[j], f), few)
    for factor in (3, 10):
        row(
            f"vectors x {factor}",
            lambda _i, j, f=factor: louder(spec, honest[j], f, kind="embed"),
            few,
        )
    for times in (0.3, 1.0, 3.0):
        share_ = times * house.policy.norm_percent / 100
        row(
            f"random A at {times:g} x cap",
            lambda i, j, s=share_: random_a(spec, honest[j], house.norms, s, 100 * i + j),
            few,
        )
    for parts, noise in (("a", 0.0), ("e", 0.0), ("ae", 0.0), ("ae", 0.3), ("ae", 0.5)):
        what = {"a": "A", "e": "vectors", "ae": "A and vectors"}[parts]
        row(
            f"copy of {what}, noise {noise:g}",
            lambda i, j, p=parts, n=noise: copied(spec, honest[j], honest[i], n, i, parts=p),
            pairs if not noise else few,
        )
    for s, (where, features) in itertools.product((0.5, 1.0), _hidden(house).items()):
        row(
            f"adaptive: cancel {s:g} at {where}, quiet at the probes",
            lambda i, j, x=s, f=features: acting(
                *(spec, (j, honest[j]), (i, honest[i]), -x), on=f[i], quiet_on=heard[i].probes
            ),
            few,
        )
    row(
        "adaptive: cancel 0.23, below the threshold",
        lambda i, j: acting(spec, (j, honest[j]), (i, honest[i]), -0.23, on=heard[i].probes),
        few,
    )
    return table


def _together(house: House) -> dict[str, object]:
    """Three attackers of .2 each, and the sum that a release adds up."""
    slots, totals = list(house.honest), []
    for n, i in enumerate(slots):
        parts = [slots[(n + step) % len(slots)] for step in (1, 4, 5)]
        probes = house.heard[i].probes
        own = response(house.spec, house.heard[i], probes)
        total = 0.0
        for j in house.honest:
            if j == i:
                continue
            tensors = house.honest[j]
            if j in parts:
                tensors = acting(house.spec, (j, tensors), (i, house.honest[i]), -0.2, on=probes)
            total += _worst(share(own, response(house.spec, house.heard_of(j, tensors), probes)))
        totals.append(round(total, 1))
    bound = house.policy.retention_sum_percent
    caught = sum(abs(total) > bound for total in totals)
    return {"planted": len(totals), "caught": caught, "sums": totals}


def _worker(house: House, num: int) -> dict[str, object]:
    """Return what the worker measures of honest ones and of some attacks."""
    measurer = Measurer(house.base, house.spec)
    spec, honest, heard = house.spec, house.honest, house.heard

    def subject(slot: int, tensors: Tensors, leaf: int = -1) -> Subject:
        trigger = (Trigger(house.names[slot]),)
        return Subject(slot if leaf < 0 else leaf, slot, trigger, tensors)

    whole = {slot: subject(slot, tensors) for slot, tensors in honest.items()}
    neutral = {slot: measurer.neutral(each) for slot, each in whole.items()}
    probes = {slot: measurer.probes(each) for slot, each in whole.items()}
    shares = {(i, j): measurer.to_it(whole[j], whole[i]) for i, j in house.pairs()}
    accused = {
        j: [
            f.code
            for f in judge_measured(
                Measured(probes[j], neutral[j], {i: shares[i, j] for i in honest if i != j}),
                house.policy,
            )
        ]
        for j in honest
    }
    values = sorted(shares.values())
    table: dict[str, object] = {
        "honest": {
            "contributions": len(honest),
            "accused": [code for codes in accused.values() for code in codes],
            "pairs": len(values),
            "lowest_shares": [round(x, 1) for x in values[:5]],
            "highest_shares": [round(x, 1) for x in values[-5:]],
            "neutral_percent": [round(x, 2) for x in neutral.values()],
            "least_probe_cosine": round(min(probes.values()), 6),
        }
    }
    few = [pair for pair in house.pairs() if (pair[1] - pair[0]) % len(house.names) == 1][:num]

    def row(name: str, made: Callable[[int, int], Tensors]) -> None:
        hits, codes = [], []
        for i, j in few:
            evil = subject(j, made(i, j), 1000 + j)
            found = Measured(
                measurer.probes(evil), measurer.neutral(evil), {i: measurer.to_it(evil, whole[i])}
            )
            findings = judge_measured(found, house.policy)
            codes.append(findings[0].code if findings else "")
            hits.append(round(found.on[i], 1))
        caught = sum(bool(code) for code in codes)
        both = sum(
            bool(code) or bool(house.caught(j, made(i, j)))
            for code, (i, j) in zip(codes, few, strict=True)
        )
        table[name] = {
            "planted": len(few),
            "caught_by_worker": caught,
            "caught_by_either": both,
            "shares": hits,
        }
        print(name, table[name], file=sys.stderr, flush=True)

    for s in STRENGTHS:
        row(
            f"cancel {s:g}",
            lambda i, j, x=s: acting(spec, (j, honest[j]), (i, honest[i]), -x, on=heard[i].probes),
        )
    for s, (where, features) in itertools.product((1.0, 3.0), _hidden(house).items()):
        row(
            f"adaptive: cancel {s:g} at {where}, quiet at the probes",
            lambda i, j, x=s, f=features: acting(
                *(spec, (j, honest[j]), (i, honest[i]), -x), on=f[i], quiet_on=heard[i].probes
            ),
        )
    row("all A x 3", lambda _i, j: louder(spec, honest[j], 3))
    row(
        "random A at 0.3 x cap",
        lambda i, j: random_a(
            spec, honest[j], house.norms, 0.3 * house.policy.norm_percent / 100, 100 * i + j
        ),
    )
    row(
        "false probe",
        lambda _i, j: changed(
            spec, honest[j], {"probe.0": np.roll(dequantise(honest[j]["probe.0"]), 1, axis=1)}
        ),
    )
    return table


def _hidden(house: House) -> dict[str, dict[int, np.ndarray]]:
    """Return each victim's features where the gate does not look."""
    return {
        "the other vector": {slot: _positions(house, slot) for slot in house.honest},
        "every position": {slot: _positions(house, slot, every=True) for slot in house.honest},
    }


def _positions(house: House, slot: int, *, every: bool = False) -> np.ndarray:
    """Return the trigger's features where no probe is taken: at its first vector, or everywhere.

    Shapes: (4, m), or with ``every`` all positions from there to the end of the prompt.
    """
    trigger = Trigger(house.names[slot])
    single = Variant.of_contribution(house.spec, slot, (trigger,), house.honest[slot])
    with single.applied(house.base) as tokens, torch.no_grad():
        prompts = [text.replace(PLACE, " ".join(trigger.words)) for text in TEMPLATES]
        text = tokens.encode(prompts).text.double().numpy()
        (name,) = house.base.towers  # the shipped base has one text encoder
        first = tokens.id_of(name, trigger.words[0])
        places = [tokens.ids(name, prompt).index(first) for prompt in prompts]
    rows = [text[n, p:] if every else text[n, p : p + 1] for n, p in enumerate(places)]
    return np.concatenate(rows)


def _worst(shares: np.ndarray) -> float:
    return 100 * float(shares[np.argmax(np.abs(shares))])


def _flat(tensors: Tensors, start: str) -> np.ndarray:
    return np.concatenate(
        [dequantise(t).ravel() for n, t in tensors.items() if n.startswith(start)]
    )


def _of(heard: Heard) -> np.ndarray:
    return np.concatenate([a.ravel() for a in heard.a.values()])


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="attacks caught, honest ones accused")
    parser.add_argument("--json", action="store_true", help="the whole result")
    parser.add_argument("--base", type=Path, default=ASSETS / "pocket-base")
    parser.add_argument("--concepts", type=Path, default=ASSETS / "pocket-concepts")
    parser.add_argument("--work", type=Path, default=Path("build/admission"))
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--worker", type=int, default=12, help="attacks of a kind on the base")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
