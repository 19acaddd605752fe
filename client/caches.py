"""Where a training keeps what it made before its first step: of this run, and of the class.

    runs/<concept>/cache/    latents of the owner's images, the base's answers on public states;
                             `cache = "disk"` or several processes, gone after packing
                             unless `keep_cache`
    class/                   latents of class images that the base drew (class_images.py); shared by
                             all concepts of one base and noun, kept: nothing in them is the owner's

Law: what is kept is found again by a digest of all that decides its bits, so a cache of another
run, base or machine is never read, and a resumed run neither encodes nor samples again.
"""

from dataclasses import dataclass
from pathlib import Path

from .cache import Cache, MemoryCache
from .disk_cache import DiskCache
from .training_settings import TrainingSettings


@dataclass(frozen=True, slots=True)
class Caches:
    """The two caches of one training."""

    run: Cache
    classes: Cache

    @staticmethod
    def in_memory() -> "Caches":
        """Return caches that end with the process."""
        return Caches(MemoryCache(), MemoryCache())

    @staticmethod
    def at(folder: Path, classes: Path, settings: TrainingSettings) -> "Caches":
        """Return those that ``settings`` ask for, of the run in ``folder``."""
        run = DiskCache(folder) if settings.on_disk else MemoryCache()
        return Caches(run, DiskCache(classes))

    def tidy(self) -> None:
        """Delete what the run's folder holds of other runs, once this one has asked for all."""
        if isinstance(self.run, DiskCache):
            self.run.drop_others()
