"""One federation's honest contributions, and the gates as the coordinator applies them."""

import hashlib
import itertools
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from admission_attacks import Tensors
from admission_set import spec_of

from orthofed.client.base import Base
from orthofed.coordinator import admission
from orthofed.coordinator.base import BaseFolder
from orthofed.coordinator.judge import judge
from orthofed.coordinator.neighbours import Neighbour
from orthofed.coordinator.policy import Policy
from orthofed.core.crosstalk import Heard, floor_of, response, share, text_readers
from orthofed.core.errors import ContributionRejected
from orthofed.core.layout import ContributionLayout, pack, unpack
from orthofed.core.quantise import dequantise
from orthofed.core.sizes import Sizes

RANK = 8


class House:
    """One federation's honest contributions, and the gates as the coordinator applies them."""

    def __init__(self, base: Base, number: int, blobs: Mapping[int, tuple[str, bytes]]) -> None:
        """Take federation ``number`` with name and blob of each slot.

        ``refused``: honest ones that break a rule of form, and why; ``honest`` are the others.
        """
        self.base = base
        self.spec = spec_of(base.folder, number, RANK)
        self.layout = ContributionLayout(self.spec, (2,))
        self.norms = BaseFolder(base.folder).measures(self.spec)
        self.names = {slot: name for slot, (name, _) in blobs.items()}
        self.policy = Policy()
        self.scratch = Path(tempfile.mkdtemp()) / "blob"
        self.honest: dict[int, Tensors] = {}
        self.layers: dict[int, tuple[float, ...]] = {}
        self.refused: dict[int, str] = {}
        for slot, (_, blob) in blobs.items():
            tensors = dict(unpack(self.layout, blob))
            try:
                self.layers[slot] = self.sizes(tensors).layers
            except ContributionRejected as error:  # it never stands beside the others
                self.refused[slot] = str(error)
            else:
                self.honest[slot] = tensors
        self.heard = {slot: self.heard_of(slot, t) for slot, t in self.honest.items()}
        self.here = {slot: response(self.spec, x, x.probes) for slot, x in self.heard.items()}

    @classmethod
    def first(cls, base: Base, concepts: Path, work: Path) -> "House":
        """Return the twelve that ship, which thresholds were chosen on."""
        names = sorted(path.name for path in concepts.iterdir() if path.is_dir())
        found = {slot: sorted(work.glob(f"{name}-*.blob")) for slot, name in enumerate(names)}
        return cls(base, 0, {s: (names[s], b[0].read_bytes()) for s, b in found.items() if b})

    @classmethod
    def held_out(cls, base: Base, place: Path) -> "list[House]":
        """Return the federations of admission_held_out.py that have two contributions or more."""
        houses = []
        for folder in sorted((place / "drawings").iterdir()):
            blobs: dict[int, tuple[str, bytes]] = {}
            for each in json.loads((folder / "concepts.json").read_text()):
                slot, name = each["slot"], each["name"]
                found = sorted((place / "blobs" / folder.name).glob(f"{slot:02d}-{name}-*.blob"))
                if found:
                    blobs[slot] = (name, found[-1].read_bytes())
            if len(blobs) > 1:
                houses.append(cls(base, 100 + int(folder.name), blobs))
        return houses

    def heard_of(self, slot: int, tensors: Tensors) -> Heard:
        a = {x.path: dequantise(tensors[f"a.{x.path}"]) for x in text_readers(self.spec)}
        return Heard(slot, a, dequantise(tensors["probe.0"])[None])

    def few(self, *steps: int) -> list[tuple[int, int]]:
        """Return the pairs whose places differ by one of ``steps``, round the house."""
        slots = list(self.honest)
        n = len(slots)
        return [(slots[k], slots[(k + step) % n]) for step in steps for k in range(n) if step % n]

    def pairs(self) -> list[tuple[int, int]]:
        return list(itertools.permutations(self.honest, 2))

    def sizes(self, tensors: Tensors) -> Sizes:
        """Return the sizes of a blob, through the very check of a Commit; raises when refused."""
        self.scratch.write_bytes(pack(self.layout, tensors))
        return admission.check_blob(
            self.scratch,
            self.layout,
            sha256=hashlib.sha256(self.scratch.read_bytes()).hexdigest(),
            norms=self.norms,
            policy=self.policy,
        )

    def neighbours(self, slot: int, tensors: Tensors, others: Sequence[int]) -> list[Neighbour]:
        own = self.heard_of(slot, tensors)
        here = response(self.spec, own, own.probes)
        floor = floor_of([here, *(self.here[leaf] for leaf in others)])
        found = []
        for leaf in others:
            other = self.heard[leaf]
            there = self.here[leaf]
            to_it = worst(share(there, response(self.spec, own, other.probes), floor=floor))
            from_it = worst(share(here, response(self.spec, other, own.probes), floor=floor))
            alike = 100 * max(
                cosine(flat(tensors, "embed."), flat(self.honest[leaf], "embed.")),
                cosine(of_heard(own), of_heard(other)),
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


def worst(shares: np.ndarray) -> float:
    return 100 * float(shares[np.argmax(np.abs(shares))])


def flat(tensors: Tensors, start: str) -> np.ndarray:
    return np.concatenate(
        [dequantise(t).ravel() for n, t in tensors.items() if n.startswith(start)]
    )


def of_heard(heard: Heard) -> np.ndarray:
    return np.concatenate([a.ravel() for a in heard.a.values()])


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
