"""A federation of this process with two concepts in a release, and the folder of who pulled it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from .serving import Running, founded, running

CONCEPTS = ("anna", "bodo")
TRIGGERS = ("anna-k7", "bodo-x4")


@contextmanager
def two_released(place: Path) -> Iterator[Running]:
    """Serve both, released at 0.6; ``packs`` holds what was sent.

    Of one seed: how much two concepts disturb each other in the model differs with the blocks.
    """
    torch.set_num_threads(1)
    with running(founded(place, seed=bytes(32))) as coordinator:
        for seed, (concept, trigger) in enumerate(zip(CONCEPTS, TRIGGERS, strict=True)):
            member = coordinator.member()
            packed = member.pack(member.lease(concept, (trigger,)), seed=seed, size=0.05)
            member.contribute(packed)
            coordinator.packs.append(packed)
        coordinator.release(614)
        folder = pulled(coordinator)
        (folder / "trust").mkdir(parents=True)
        (folder / "trust" / "spec.json").write_bytes(coordinator.house.facts.spec.to_bytes())
        for path in (coordinator.folder.releases / "1").iterdir():
            (folder / path.name).symlink_to(path)
        yield coordinator


def pulled(coordinator: Running) -> Path:
    """Return the release's folder as a consumer has it."""
    return coordinator.folder.settings().base.parent / "release-1"
