"""`orthofed pull --concept ... --weight ...`: some concepts of a release, at weights of one's own.

    1  manifest, ledger; the chosen blobs, one small published file           pull.py
    2  the files that they give, by the core writers                          composer.py
    3  trust/ and composition.json, for `orthofed verify`                     verify_composed.py

Law: exact: integers of the contributors in, one rounding out; the same choice gives the same bytes
on every machine, and all concepts at the release's weights give the release's own. Everything lies
in ``.compose`` inside the folder until it is whole; a run that was cut goes on.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..core.errors import InputError
from .composer import Composer, OnBytes
from .composition import (
    COMPOSITION,
    LIKE,
    MANIFEST_OF,
    Composition,
    chosen,
    prediction_of,
    smallest_vectors,
)
from .contributions import FOLDER, Contributions, blob_name
from .home import sync_folder, write_whole
from .open_part import open_shares
from .origin import Origin
from .pull import Pull
from .seen_heads import SeenHeads

WORK: Final = ".compose"


@dataclass(frozen=True, slots=True)
class Composed:
    """What was written: the release it is of, each concept's weight in 1/1024, files, bytes."""

    log: str
    fed: str
    n: int
    weights: Mapping[str, int]
    num_files: int
    num_bytes: int
    fetched_bytes: int


@dataclass(frozen=True, slots=True)
class Compose:
    """One composition on its way into ``out``."""

    origin: Origin
    log: str
    out: Path
    seen: SeenHeads
    on_bytes: OnBytes = lambda *_: None
    mirrors: tuple[Origin, ...] = ()

    def run(self, n: int, concepts: Sequence[str], weights: Mapping[str, int]) -> Composed:
        """Compose ``concepts`` of release ``n``, 0 for the newest; none named: all of them.

        Raises InputError: a name that the release does not hold, or a folder with something else.
        Raises Refused, VerificationFailed: as a pull.
        """
        self._claim()
        work, made = self.out / WORK, self.out / WORK / "made"
        pull = Pull(self.origin, self.log, work, self.seen, self.on_bytes, mirrors=self.mirrors)
        begun = pull.begin(n)
        release, manifest = begun.release, begun.release.manifest
        contributions = Contributions(work, release)
        taken = chosen(contributions, concepts, weights)
        shares = tuple(sorted(taken.values()))
        leaves = [leaf for leaf, _ in shares]
        pull.fetch_contributions(release, leaves)
        like = smallest_vectors(manifest)
        pull.fetch(release, [like])
        made_of = Composition(self.log, manifest.n, shares, like.name)
        shutil.rmtree(made, ignore_errors=True)
        with open_shares(contributions, shares) as merge:
            entries = Composer(
                merge,
                manifest.n,
                prediction_of(work / like.name),
                contributions.withdrawn_slots(),
                mixed=made_of.is_mixed(manifest),
            ).write(made, self.on_bytes)
        pull.write_trust(made, begun)
        write_whole(made / MANIFEST_OF, begun.document)
        shutil.copyfile(work / like.name, made / LIKE)
        (made / FOLDER).mkdir()
        for leaf in leaves:
            shutil.copyfile(work / blob_name(leaf), made / blob_name(leaf))
        self._finish(made, made_of)
        blobs = [contributions.manifest(leaf).bytes for leaf in leaves]
        return Composed(
            log=self.log,
            fed=manifest.fed,
            n=manifest.n,
            weights={name: share for name, (_, share) in taken.items()},
            num_files=len(entries),
            num_bytes=sum(entry.bytes for entry in entries),
            fetched_bytes=sum(blobs) + like.bytes,
        )

    def _claim(self) -> None:
        """Take the folder: new, empty, or begun by a composition."""
        taken = self.out.is_symlink() or (self.out.exists() and not self.out.is_dir())
        if not taken and self.out.is_dir():
            names = {path.name for path in self.out.iterdir()}
            taken = bool(names) and WORK not in names
        if taken:
            raise InputError(
                f"{self.out} holds something else",
                why="a composed folder holds one composition and nothing else",
                fix="give a new or empty folder with -o",
                code="folder-taken",
            )

    def _finish(self, made: Path, made_of: Composition) -> None:
        """Give the files their place, the record last."""
        for path in sorted(made.iterdir()):
            target = self.out / path.name
            if target.is_dir():  # of a run that was cut here
                shutil.rmtree(target)
            path.replace(target)
        write_whole(self.out / COMPOSITION, made_of.to_bytes())
        sync_folder(self.out)
        shutil.rmtree(self.out / WORK)
