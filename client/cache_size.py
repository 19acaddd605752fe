"""How many bytes a training will keep on disk, known from sizes and counts before a slot is leased.

    latents    images x copies, 4 bytes a number, and a mask each where images of a shape have one
    public     two latents a state: the noisy one and the base's answer
    texts      where they are kept (text_states.py): of every caption with every phrase, at most
    class      the images that the base draws, at its own size

Law: an estimate here is what disk_cache.py writes, but for some hundred bytes a file.
"""

import math
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import OrthoFedError
from ..core.spec import FederationSpec
from .base import Base
from .captioned import Captioned
from .captions import TEMPLATES
from .class_images import GROUP
from .dataset import ConceptImages
from .text_states import keeps_text, text_bytes
from .training_settings import TrainingSettings

_FLOAT = 4


@dataclass(frozen=True, slots=True)
class CacheSize:
    """Bytes of the run's cache and of the shared class images."""

    run_bytes: int
    class_bytes: int

    @staticmethod
    def of(
        base: Base, spec: FederationSpec, images: ConceptImages, settings: TrainingSettings
    ) -> "CacheSize":
        """Return what these settings keep on disk of these images in the federation ``spec``."""
        drawn = 0
        if settings.prior_weight and not images.of_the_class:
            drawn = math.ceil(settings.prior_images / GROUP) * GROUP
        class_bytes = drawn * _FLOAT * math.prod(base.latent_shape)
        if not settings.on_disk:
            return CacheSize(0, class_bytes)
        copies = settings.jitters * (2 if settings.flip else 1)
        run_bytes = copies * _encoded_bytes(base, images.train)
        if settings.prior_weight:
            run_bytes += _encoded_bytes(base, images.of_the_class)
        if keeps_text(spec):
            captions = len({item.caption for item in images.train}) + len(TEMPLATES)
            run_bytes += text_bytes(base, captions * (2 + settings.strangers) + 1)
        return CacheSize(run_bytes + _public_bytes(base, images.train, settings), class_bytes)

    def check(self, folder: Path, settings: TrainingSettings) -> None:
        """Pass if the disk of ``folder`` has room.

        Raises OrthoFedError: it has not; needed and free bytes, what to change.
        """
        needed = self.run_bytes + self.class_bytes
        place = next(p for p in (folder, *folder.parents) if p.is_dir())
        free = shutil.disk_usage(place).free
        if needed <= free:
            return
        ways = [f"free {needed - free} bytes"]
        if self.run_bytes:
            if settings.processes == 1:
                ways.append('set cache = "memory" if the memory is larger')
            if settings.null_weight and settings.null_states > 1:
                ways.append(f"set null_states = {settings.null_states // 2}")
        if self.class_bytes and settings.prior_images > GROUP:
            ways.append(f"set prior_images = {settings.prior_images // 2}")
        raise OrthoFedError(
            f"{needed} bytes needed for the cache in {folder}, {free} free",
            why="a disk that is full in the middle stops the training; no slot was leased",
            fix="; or ".join((*ways, "give a --home on a larger disk")),
            code="disk-too-small",
        )


def _latent_bytes(base: Base, size: tuple[int, int]) -> int:
    side = base.pixels_per_latent
    return _FLOAT * base.latent_shape[0] * (size[0] // side) * (size[1] // side)


def _by_size(items: Sequence[Captioned]) -> dict[tuple[int, int], list[Captioned]]:
    found: dict[tuple[int, int], list[Captioned]] = defaultdict(list)
    for item in items:
        found[item.size].append(item)
    return found


def _encoded_bytes(base: Base, items: Sequence[Captioned]) -> int:
    total = 0
    for size, some in _by_size(items).items():
        latent = _latent_bytes(base, size)
        masked = any(item.mask_sha256 for item in some)
        total += len(some) * (latent + (latent // base.latent_shape[0] if masked else 0))
    return total


def _public_bytes(base: Base, items: Sequence[Captioned], settings: TrainingSettings) -> int:
    if not settings.null_weight:
        return 0
    total = 0
    for size, some in _by_size(items).items():
        drawn = math.ceil(settings.null_images * len(some) / len(items) - 1e-9)
        states = drawn * settings.null_sampling_steps + settings.own_states * len(some)
        total += 2 * states * _latent_bytes(base, size)
    return total
