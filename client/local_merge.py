"""`orthofed pull --key`: merges a release's public contributions with the private ones of a key.

    1  manifest, proofs, public blobs          pull.py, contributions.py
    2  private ones: fetched, opened, checked  private_contributions.py
    3  the files of a release, as a public merge of the same contributions would give them
                                               composer.py

Laws (formats.md 1, laws 1 and 7): the same bytes as if all of it had been public; nobody signed the
result, so it has no manifest and `orthofed verify` refuses it; what is private stays in files of
this machine. Everything lies in ``.private`` inside the folder until the result is whole, then the
rest of that is removed; a run that was cut goes on with its release, one that was refused with any.
Cost: one merge, one read of the base model.
"""

import shutil
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from ..core.base_files import BaseFiles
from ..core.contribution import ContributionManifest
from ..core.errors import InputError, Refused, VerificationFailed
from ..core.merging import Merge
from .channel import Channel
from .choice import kinds_for
from .composer import Composer
from .contributions import Contributions
from .home import sync_folder
from .open_part import open_part
from .origin import WireOrigin
from .private_contributions import PrivateContributions
from .pull import OnBytes, Pull
from .rebuild import check_base
from .seen_heads import SeenHeads
from .trusted_ledger import TrustedRelease

WORK: Final = ".private"


@dataclass(frozen=True, slots=True)
class Merged:
    """What was merged: the release it goes by, the concepts by name, those sealed for others."""

    release: TrustedRelease
    public: tuple[str, ...]
    private: tuple[str, ...]
    num_sealed_for_others: int
    num_files: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class LocalMerge:
    """One merge on its way into ``out``."""

    channel: Channel
    log: str
    out: Path
    seen: SeenHeads
    private: X25519PrivateKey
    base: BaseFiles
    on_bytes: OnBytes = lambda *_: None

    @property
    def work(self) -> Path:
        """The folder of everything that is not the result."""
        return self.out / WORK

    def run(
        self, n: int = 0, *, lambda_1024: int | None = None, programs: Collection[str] = ()
    ) -> Merged:
        """Merge release ``n``, 0 for the newest, with what the key opens.

        ``lambda_1024``: weight of the private ones, by default the federation's. ``programs``: only
        the files for these (choice.py).
        Raises InputError: the folder holds something else, or the base is another model. Raises
        Refused: nothing in the release is sealed for this key. Raises VerificationFailed or
        ContributionRejected: something is not what was signed, or breaks a rule.
        """
        kinds = kinds_for(programs)
        self._claim()
        pull = Pull(WireOrigin(self.channel), self.log, self.work, self.seen, self.on_bytes)
        release = pull.begin(n).release
        with pull.let_go_when_refused():
            return self._merged(pull, release, lambda_1024=lambda_1024, kinds=kinds)

    def _merged(
        self,
        pull: Pull,
        release: TrustedRelease,
        *,
        lambda_1024: int | None,
        kinds: Collection[str],
    ) -> Merged:
        spec = release.federation.spec
        check_base(self.base, spec)
        pull.fetch_contributions(release)
        contributions = Contributions(self.work, release)
        ours = PrivateContributions(contributions, self.private)
        opened = list(ours.fetch(self.channel))
        if not opened:
            raise _nothing_ours(len(ours.leaves), release.manifest.n)
        share = spec.lambda_1024 if lambda_1024 is None else lambda_1024
        with ExitStack() as stack:
            shares = release.manifest.contributions
            parts = [open_part(contributions, leaf, weight, stack) for leaf, weight in shares]
            for leaf, manifest in opened:
                part = ours.part(leaf, manifest, self.base, lambda_1024=share, stack=stack)
                parts.append(part)
            merge = Merge.of(spec, parts)
            _check_apart(merge, [part.manifest for part in parts])
            files, num_bytes = self._write(merge, contributions, kinds)
        self._finish()
        return Merged(
            release=release,
            public=tuple(dict.fromkeys(p.manifest.concept for p in parts[: -len(opened)])),
            private=tuple(manifest.concept for _, manifest in opened),
            num_sealed_for_others=len(ours.leaves) - len(opened),
            num_files=files,
            num_bytes=num_bytes,
        )

    def _claim(self) -> None:
        """Take the folder: new, empty, or begun by a merge."""
        taken = self.out.is_symlink() or (self.out.exists() and not self.out.is_dir())
        if not taken and self.out.is_dir():
            names = {path.name for path in self.out.iterdir()}
            taken = bool(names) and WORK not in names
        if taken:
            raise InputError(
                f"{self.out} holds something else",
                why="a merged folder holds one merge and nothing else",
                fix="give a new or empty folder with -o",
                code="folder-taken",
            )
        self.work.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _write(
        self, merge: Merge, contributions: Contributions, kinds: Collection[str]
    ) -> tuple[int, int]:
        """Write every file anew under ``made``; return how many, and their bytes."""
        made = self.work / "made"
        shutil.rmtree(made, ignore_errors=True)
        entries = Composer(
            merge,
            contributions.release.manifest.n,
            self.base.prediction,
            contributions.withdrawn_slots(),
            base=self.base,
            kinds=kinds,
        ).write(made, self.on_bytes)
        return len(entries), sum(entry.bytes for entry in entries)

    def _finish(self) -> None:
        """Give the files their place, then remove what they were made of."""
        for path in sorted((self.work / "made").iterdir()):
            target = self.out / path.name
            if target.is_dir():  # of a run that was cut here
                shutil.rmtree(target)
            path.replace(target)
        sync_folder(self.out)
        shutil.rmtree(self.work)


def _check_apart(merge: Merge, manifests: list[ContributionManifest]) -> None:
    """Refuse two in one slot, or of one name: their files and columns would be each other's."""
    for what in (
        [str(each.slot) for each in manifests],
        [part.manifest.concept for part in merge.parts],
        [trigger for part in merge.parts for trigger in part.manifest.triggers],
    ):
        if len(set(what)) < len(what):
            twice = next(each for each in what if what.count(each) > 1)
            raise VerificationFailed(
                f"two contributions share {twice}",
                why="slots and names of one federation are each one's own",
                fix="do not use this release; keep the folder and tell the operator",
                code="not-apart",
            )


def _nothing_ours(num: int, n: int) -> Refused:
    return Refused(
        f"none of {num} private contributions of release {n} is sealed for this key",
        why="their owners named other consumers, or came after this release",
        fix="give the owners your `orthofed recipient show` line, or pull a newer release",
        code="not-for-you",
    )
