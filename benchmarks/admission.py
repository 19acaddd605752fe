"""Admission: planted attacks that it catches, and honest concepts that it accuses.

    python benchmarks/admission.py --json               # the set that thresholds were chosen on
    python benchmarks/admission.py --json --held-out    # admission_held_out.py's, looked at once

Claim (issue 5): attacks at the strengths of security.md are caught in 98 of 100 cases or more, at
most 1 of 100 honest ones is accused, on the shipped base with trained contributions. Honest: every
concept against all others, and all of them admitted one after the other. An attack changes one
trained contribution and leaves its own concept in place; it counts as caught when the gates of the
coordinator (numpy) or, in the second table, the worker on the base say so, with the defaults of
coordinator/policy.py. Adaptive attacks know the gates; their rows are reported, whatever they say.

Each rate has its exact (Clopper-Pearson) 95 % interval. It takes the cases for independent, and
pairs of one federation are not: what an interval proves is meant for as many contributions as there
are, not as many pairs.
"""

import argparse
import datetime as dt
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from admission_attacks import Tensors, acting, copied, louder, random_a
from admission_house import House, worst
from admission_names import look_alikes
from admission_set import ASSETS
from admission_worker import STRENGTHS, hidden_places, worker_table
from circumstances import commit, hardware
from scipy.stats import binomtest

from orthofed.client.base import Base
from orthofed.coordinator import together
from orthofed.coordinator.contribution_rows import Contribution
from orthofed.coordinator.judge import judge
from orthofed.coordinator.policy import Policy
from orthofed.core.crosstalk import floor_of, response, share

Make = Callable[[House, int, int], Tensors]
"""From victim and attacker to the attacker's tensors."""


def rate(hits: int, of: int) -> dict[str, object]:
    """Return a rate with its exact interval."""
    low, high = binomtest(hits, of).proportion_ci(0.95, method="exact")
    interval = [round(100 * low, 1), round(100 * high, 1)]
    return {"hits": hits, "of": of, "percent": round(100 * hits / of, 1), "interval_95": interval}


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    started_s = time.monotonic()
    base = Base.load(options.base)
    houses = (
        House.held_out(base, options.place)
        if options.held_out
        else [House.first(base, options.concepts, options.work)]
    )
    policy = Policy()
    result = {
        "schema": "orthofed.admission-benchmark/2",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/admission.py", *sys.argv[1:]]),
        "commit": commit(),
        "hardware": hardware(),
        "concepts": [list(house.names.values()) for house in houses],
        "policy": {k: getattr(policy, k) for k in Policy.__slots__},
        "names": look_alikes(),
        "honest": _honest(houses),
        "attacks": _attacks(houses),
        "together": {
            f"{num} at {s:g}": _together(houses, num, s)
            for num, s in ((1, 0.2), (2, 0.2), (3, 0.2), (4, 0.2), (3, 0.15))
        },
        "worker": [worker_table(house, options.worker) for house in houses if options.worker],
        "seconds": 0.0,
    }
    result["seconds"] = round(time.monotonic() - started_s, 1)
    print(json.dumps(result, indent=2) if options.json else json.dumps(result["attacks"]))


def _honest(houses: Sequence[House]) -> dict[str, object]:
    """Return what the honest ones measure, and whom the gates accuse as they come in one by one."""
    accused, shares, alike, sums, layers, loud, long = {}, [], [], [], [], [], []
    for house in houses:
        accused |= {house.names[slot]: [why] for slot, why in house.refused.items()}
        for count, (slot, tensors) in enumerate(house.honest.items()):
            before = list(house.honest)[:count]
            sizes, others = house.sizes(tensors), house.neighbours(slot, tensors, before)
            usual = [house.layers[other] for other in before]
            found = judge(sizes, others, house.policy, usual=usual, is_first=False)
            if found.findings:
                accused[house.names[slot]] = [finding.why for finding in found.findings]
            shares += [x for n in others for x in (n.to_it, n.from_it)]
            alike += [n.alike for n in others]
            loud.append(found.figures["loudness_percent"])
            long.append(sizes.embedding_percent)
            layers.append(max(sizes.layers))
            everyone = [other for other in house.honest if other != slot]
            sums.append(sum(n.from_it for n in house.neighbours(slot, tensors, everyone)))
    print("honest", accused, file=sys.stderr, flush=True)
    bound = houses[0].policy.retention_sum_percent
    return {
        "accused": rate(len(accused), sum(len(house.names) for house in houses)),
        "accused_why": accused,
        "spoilt_together": rate(sum(abs(x) > bound for x in sums), len(sums)),
        "pairs_above": {
            f"{bound:g}": rate(sum(abs(x) > bound for x in shares), len(shares))
            for bound in (5, 10, 15, 20, 25)
        },
        "largest_share": round(max(map(abs, shares)), 2),
        "largest_sum": round(max(map(abs, sums)), 2),
        "sums": [round(x, 1) for x in sums],
        "largest_likeness": round(max(alike), 2),
        "loudness_percent": loud,
        "norm_percent": [round(float(x), 1) for x in layers],
        "embedding_percent": [round(float(x), 1) for x in long],
        "budget_percent": [
            round(float(np.sqrt(np.square(list(h.layers.values())).sum(axis=0)).max()), 1)
            for h in houses
        ],
    }


def _attacks(houses: Sequence[House]) -> dict[str, object]:
    table: dict[str, object] = {}

    def row(name: str, made: Make, *steps: int) -> None:
        codes = [
            house.caught(j, made(house, i, j))
            for house in houses
            for i, j in (house.few(*steps) if steps else house.pairs())
        ]
        by = {code: codes.count(code) for code in sorted({*codes} - {""})}
        table[name] = {**rate(sum(map(bool, codes)), len(codes)), "by": by}
        print(name, table[name], file=sys.stderr, flush=True)

    def act(h: House, i: int, j: int, strength: float) -> Tensors:
        own, victim = (j, h.honest[j]), (i, h.honest[i])
        return acting(h.spec, own, victim, strength, on=h.heard[i].probes[0])

    for s in STRENGTHS:
        row(f"cancel {s:g}", lambda h, i, j, x=s: act(h, i, j, -x))
        row(f"repeat {s:g}", lambda h, i, j, x=s: act(h, i, j, x), 1, 5)
    for factor in (2, 2.5, 3, 5, 10):
        row(f"all A x {factor:g}", lambda h, _i, j, f=factor: louder(h.spec, h.honest[j], f), 1)
    for factor in (3, 10):
        row(
            f"vectors x {factor}",
            lambda h, _i, j, f=factor: louder(h.spec, h.honest[j], f, kind="embed"),
            1,
        )
    for times in (0.3, 1.0, 3.0):
        row(
            f"random A at {times:g} x cap",
            lambda h, i, j, x=times: random_a(
                h.spec, h.honest[j], h.norms, x * h.policy.norm_percent / 100, 100 * i + j
            ),
            *(1, 5),
        )
    for parts, noise in (("a", 0.0), ("e", 0.0), ("ae", 0.0), ("ae", 0.3), ("ae", 0.5)):
        what = {"a": "A", "e": "vectors", "ae": "A and vectors"}[parts]
        row(
            f"copy of {what}, noise {noise:g}",
            lambda h, i, j, p=parts, n=noise: copied(
                h.spec, h.honest[j], h.honest[i], n, i, parts=p
            ),
            *(1, 5),
        )
    places = {house.spec.id: hidden_places(house) for house in houses}
    for s, where in itertools.product((0.5, 1.0), ("the other vector", "every position")):
        row(
            f"adaptive: cancel {s:g} at {where}, quiet at the probes",
            lambda h, i, j, x=s, w=where: acting(
                *(h.spec, (j, h.honest[j]), (i, h.honest[i]), -x),
                on=places[h.spec.id][w][i],
                quiet_on=h.heard[i].probes[0],
            ),
            1,
        )
    row("adaptive: cancel 0.23, below the threshold", lambda h, i, j: act(h, i, j, -0.23), 1)
    return table


def _together(houses: Sequence[House], num: int, strength: float) -> dict[str, object]:
    """Plant ``num`` attackers on each victim; return who goes at a release, by its very rule."""
    stopped = innocent = attackers = 0
    totals: list[float] = []
    for house in houses:
        slots = list(house.honest)
        for n, i in enumerate(slots if len(slots) > 5 else ()):
            evil = {slots[(n + step) % len(slots)] for step in (1, 4, 5, 2)[:num]}
            heard = dict(house.heard)
            for j in evil:
                own, victim = (j, house.honest[j]), (i, house.honest[i])
                on = house.heard[i].probes[0]
                heard[j] = house.heard_of(j, acting(house.spec, own, victim, -strength, on=on))
            here = {v: response(house.spec, heard[v], heard[v].probes) for v in slots}
            floor = floor_of([*here.values()])
            shares = {
                (v, j): worst(
                    share(here[v], response(house.spec, heard[j], heard[v].probes), floor=floor)
                )
                for v, j in itertools.permutations(slots, 2)
            }
            entries = [Contribution(slot, slot, 1, "accepted", "", "{}", slot) for slot in slots]
            own, whole = {slot: slot for slot in slots}, dict.fromkeys(slots, 1.0)
            company = together._Set(entries, own, whole, shares=shares)  # the release's own rule
            found = together._too_much(company, house.policy.retention_sum_percent)
            gone = {leaf for leaf, _ in found}
            stopped += bool(gone & evil)
            attackers += len(gone & evil)
            innocent += len(gone - evil)
            totals.append(round(sum(shares[i, j] for j in slots if j != i), 1))
    return {
        "noticed": rate(stopped, len(totals)),
        "attackers_out": attackers,
        "honest_out": innocent,
        "sums": totals,
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="attacks caught, honest ones accused")
    parser.add_argument("--json", action="store_true", help="the whole result")
    parser.add_argument("--held-out", action="store_true", help="the set nothing was chosen on")
    parser.add_argument("--base", type=Path, default=ASSETS / "pocket-base")
    parser.add_argument("--concepts", type=Path, default=ASSETS / "pocket-concepts")
    parser.add_argument("--work", type=Path, default=Path("build/admission"))
    parser.add_argument("--place", type=Path, default=Path("build/held-out"))
    parser.add_argument("--worker", type=int, default=12, help="attacks of a kind on the base")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
