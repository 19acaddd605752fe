"""What a data owner asks of `orthofed client train`, checked where the coordinator would refuse it.

Law: what is published under the owner's name (title, licence, triggers) is known to be good before
a slot is leased, hours before it is signed. Settings of the training itself: training_settings.py.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ..core.errors import InputError
from ..core.names import check_title, slug
from ..core.recipient import Recipient
from .share_text import ShareText
from .throttle import Throttle
from .wraps import check_recipients

LICENCE: Final = "CC0-1.0"
"""What an owner publishes under who names no other licence."""
_SPDX: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")
"""What core/contribution.py takes as a licence."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What the owner asks for."""

    concept: str
    noun: str
    images: Path
    base: Path
    triggers: tuple[str, ...] = ()  # empty: the concept's name
    vectors: int = 2  # learned vectors of each trigger
    title: str | None = None
    licence: str | None = None  # None: LICENCE
    pictures: bool | None = None  # releases may show a picture, drawn by the merged model; None: no
    config: Path | None = None
    preset: str | None = None
    steps: int | None = None
    seed: int | None = None
    device: str | None = None  # None: the settings'
    private_to: tuple[Recipient, ...] = ()  # empty: a public contribution
    dp_epsilon: float | None = None  # as above; 0: no differential privacy
    dp_mode: str | None = None  # as above
    corrective: bool = False  # train further what was sent, against a release
    release: int = 0  # with it: against which one; 0: the newest
    shared: bool = False  # say of how many images it is made, so that others may join the concept
    share: ShareText | None = None  # join another owner's concept
    upload_kib_s: int = 0  # 0: as fast as it goes
    upload_bytes_left: int | None = None  # of a day's allowance; None: any
    kept: Mapping[str, object] | None = None  # settings of an earlier run; None: the defaults

    def joined(self) -> "TrainOptions":
        """Return the options with the words of the share, where there is one.

        Raises InputError: the command says other ones.
        """
        given = self.share
        if given is None:
            return self
        own = self.triggers or given.triggers
        if (slug(self.concept), own, self.noun) != (given.concept, given.triggers, given.noun):
            raise InputError(
                f"--concept {self.concept[:40]!r} and --class-noun {self.noun[:40]!r} with a share"
                f" of {given.concept}",
                why=f"every owner teaches it as {', '.join(given.triggers)}, from {given.noun}",
                fix="give those, or another share",
                code="share-differs",
            )
        return replace(self, triggers=given.triggers, vectors=given.vectors[0], shared=True)

    @property
    def published_as(self) -> str:
        """The SPDX id that is signed."""
        return LICENCE if self.licence is None else self.licence

    @property
    def throttle(self) -> Throttle:
        """The bound on what is sent."""
        return Throttle.of(self.upload_kib_s, self.upload_bytes_left)

    @staticmethod
    def epsilon_of(text: str | None) -> float | None:
        """Return E of ``eps=E``. Raises InputError: it says something else."""
        found = re.fullmatch(r"eps=([0-9]{1,3}(?:\.[0-9]{1,3})?)", text) if text else None
        if text and found is None:
            raise InputError(
                f"--dp {text[:40]!r}",
                why="it says how much one image may show: eps=8 is weak, eps=3 is stronger",
                fix="write --dp eps=8; the rest is in the training settings that begin with dp_",
                code="bad-dp",
            )
        return float(found[1]) if found else None

    def check(self) -> None:
        """Pass if title and licence may be published, and the recipients can be sealed for.

        Raises InputError: one of them may not.
        """
        if self.dp_mode not in (None, "sgd", "mean"):
            raise InputError(
                f"--dp-mode {self.dp_mode[:40]!r}",
                why="noise is added to every step (sgd), or once to one mean (mean)",
                fix="write --dp-mode mean, or leave it away",
                code="bad-dp",
            )
        if self.private_to:
            check_recipients(self.private_to)
        if self.shared and (self.private_to or self.dp_epsilon):
            raise InputError(
                "--shared or --share with --private-to or --dp",
                why="parts are averaged in the open, and a claim of privacy is one owner's own",
                fix="leave out one of the two",
                code="options-differ",
            )
        if self.private_to and self.pictures:
            raise InputError(
                "--pictures with --private-to",
                why="a release holds nothing that could draw a private concept",
                fix="leave out one of the two",
                code="options-differ",
            )
        if self.title is not None:
            check_title(self.title)
        if not _SPDX.fullmatch(self.published_as):
            raise InputError(
                "a licence that is no SPDX id",
                why="it is published in the manifest and in file headers",
                fix="give an id such as CC0-1.0 or CC-BY-4.0 with --licence",
                code="bad-licence",
            )
