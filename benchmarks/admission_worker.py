"""What the admission worker measures of honest contributions and of some attacks, on the base."""

import itertools
import sys
from collections.abc import Callable

import numpy as np
import torch
from admission_attacks import Tensors, acting, changed, louder, random_a
from admission_house import House

from orthofed.admission.measure import Measurer, Subject
from orthofed.client.captions import PLACE, TEMPLATES
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Variant
from orthofed.coordinator.judge import Measured, judge_measured
from orthofed.core.quantise import dequantise

STRENGTHS = (0.2, 0.3, 0.5, 1.0)


def worker_table(house: House, num: int) -> dict[str, object]:
    """Return what the worker measures of honest ones and of some attacks."""
    measurer = Measurer(house.base, house.spec)
    spec, honest, heard = house.spec, house.honest, house.heard

    def subject(slot: int, tensors: Tensors, leaf: int = -1) -> Subject:
        trigger = (Trigger(house.names[slot]),)
        return Subject(slot if leaf < 0 else leaf, slot, trigger, tensors)

    whole = {slot: subject(slot, tensors) for slot, tensors in honest.items()}
    neutral = {slot: measurer.neutral(each) for slot, each in whole.items()}
    probes = {slot: measurer.probes(each) for slot, each in whole.items()}
    floor = measurer.floor([*whole.values()])
    shares = {(i, j): measurer.to_it(whole[j], whole[i], floor=floor) for i, j in house.pairs()}
    accused = {}
    for count, j in enumerate(honest):  # as they come in, one by one
        on = {i: shares[i, j] for i in list(honest)[:count]}
        found = judge_measured(Measured(probes[j], neutral[j], on), house.policy)
        accused |= {house.names[j]: [f.why for f in found]} if found else {}
    values = sorted(shares.values())
    table: dict[str, object] = {
        "honest": {
            "contributions": len(honest),
            "accused": accused,
            "shares": [round(x, 1) for x in values],
            "neutral_percent": [round(x, 2) for x in neutral.values()],
            "least_probe_cosine": round(min(probes.values()), 6),
        }
    }
    few = house.few(1)[:num]

    def row(name: str, made: Callable[[int, int], Tensors]) -> None:
        hits, codes = [], []
        for i, j in few:
            evil = subject(j, made(i, j), 1000 + j)
            usual = [evil, *(each for slot, each in whole.items() if slot != j)]
            share = measurer.to_it(evil, whole[i], floor=measurer.floor(usual))
            found = Measured(measurer.probes(evil), measurer.neutral(evil), {i: share})
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
            lambda i, j, x=s: acting(
                spec, (j, honest[j]), (i, honest[i]), -x, on=heard[i].probes[0]
            ),
        )
    for s, (where, features) in itertools.product((1.0, 3.0), hidden_places(house).items()):
        row(
            f"adaptive: cancel {s:g} at {where}, quiet at the probes",
            lambda i, j, x=s, f=features: acting(
                *(spec, (j, honest[j]), (i, honest[i]), -x), on=f[i], quiet_on=heard[i].probes[0]
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


def hidden_places(house: House) -> dict[str, dict[int, np.ndarray]]:
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
