"""What was asked of a contribution when it was packed, so that a later command can be told apart.

    home/runs/<concept>/asked.json    the lease; options as given; what decided the training, by
                                      name, images by SHA-256; what is signed besides

Laws: an option that a later command leaves away stays as it was, noise and readers above all; one
that it gives otherwise is a difference, and never ignored. A record counts for its own lease alone.
A home from before there were records has what its manifest says. Nothing of it leaves. Left to
others: what a difference leads to (asked_again.py).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from ..core.contribution import ContributionManifest
from ..core.document import parse
from ..core.recipient import Recipient
from .correction import is_unsent
from .home import write_whole
from .packed_contribution import recipients_in
from .session import Session
from .state import ASKED, FIDELITY, MANIFEST, load
from .train_options import TrainOptions
from .training_settings import TrainingSettings
from .workbench import Workbench

SENT: Final = ("approved", "receipted")
"""The phases in which bytes may have left."""
_PACKED: Final = ("packed", *SENT)
_PLAIN: Final = ("title", "licence", "pictures", "dp_epsilon", "dp_mode")
_GIVEN: Final = frozenset({*_PLAIN, "steps", "seed", "shared", "private_to", "base"})
_SIGNED: Final = frozenset({"licence", "title", "pictures", "shared", "readers"})
_FILES: Final = frozenset({"images", "class images", "LoRA", "embedding"})


@dataclass(frozen=True, slots=True)
class Asked:
    """What one command asked for; all values are plain JSON."""

    slot: int
    fence: int
    given: Mapping[str, Any]  # options, None where not given; base: the settings under them
    taught: Mapping[str, Any]  # what decides the training
    signed: Mapping[str, Any]  # what the manifest says besides
    folder: str = ""  # where the images were

    @staticmethod
    def of(session: Session, options: TrainOptions, bench: Workbench) -> "Asked":
        """Return what a command asks for that lacks nothing.

        Raises InputError: settings or images cannot be read.
        """
        readers = sorted(each.to_text() for each in options.private_to)
        given = {name: getattr(options, name) for name in (*_PLAIN, "steps", "seed", "shared")}
        asked = Asked(
            session.slot,
            session.fence,
            {**given, "private_to": readers, "base": _base(options)},
            bench.decides(missing=session.phase in SENT),
            {
                "licence": options.published_as,
                "title": options.title or "",
                "pictures": bool(options.pictures),
                "shared": options.shared,
                "readers": readers,
            },
            str(options.images.resolve()),
        )
        return _read(json.dumps(asdict(asked)))

    @staticmethod
    def kept(folder: Path, session: Session) -> "Asked | None":
        """Return what was asked of the work of ``session``, None where nothing is known of it."""
        try:
            found = _read((folder / ASKED).read_text("utf-8"))
        except (OSError, ValueError, TypeError):
            found = None
        if found is not None and (found.slot, found.fence) == (session.slot, session.fence):
            return found
        return _from_manifest(folder, session) if session.phase in _PACKED else None

    def write(self, folder: Path) -> None:
        """Keep it beside what is packed."""
        write_whole(folder / ASKED, json.dumps(asdict(self), sort_keys=True).encode())

    def completed(self, options: TrainOptions) -> TrainOptions:
        """Return the options, with what they leave away as it was asked before.

        Raises InputError: the settings file cannot be read.
        """
        before, states = self.given, options.config is not None or options.preset is not None
        names = list(_PLAIN)
        if options.dp_epsilon == 0:
            names.remove("dp_mode")
        if (not states or _base(options) == before["base"]) and options.dp_mode in (
            None,
            before["dp_mode"],
        ):
            names += ["steps", "seed"]
        left = {name: before[name] for name in names if getattr(options, name) is None}
        return replace(
            options,
            **left,
            shared=options.shared or before["shared"],
            private_to=options.private_to
            or tuple(Recipient.from_text(text) for text in before["private_to"]),
            kept=None if states else before["base"],
        )

    def taught_otherwise(self, now: "Asked") -> list[str]:
        """Return in words what ``now`` asks of the training in another way."""
        return _differences(self.taught, now.taught)

    def signed_otherwise(self, now: "Asked") -> list[str]:
        """Return in words what ``now`` asks to be signed in another way."""
        return _differences(self.signed, now.signed)


def options_as_before(folder: Path, options: TrainOptions) -> TrainOptions:
    """Return the options of a command, with what it leaves away as it was asked before.

    A new round or a concept that was withdrawn begins anew: nothing is taken over.
    """
    session = load(folder)
    if session is None or (options.corrective and not is_unsent(session)):
        return options
    asked = Asked.kept(folder, session)
    return options if asked is None else asked.completed(options)


def is_import(folder: Path, session: Session) -> bool:
    """Return whether what is packed came from a LoRA, so that no images were there to score it."""
    asked = Asked.kept(folder, session)
    if asked is not None and asked.folder:
        return "LoRA" in asked.taught
    return (folder / FIDELITY).exists()  # of an earlier version


def _base(options: TrainOptions) -> Mapping[str, Any]:
    """Return the settings under the options, of preset and file or as they were."""
    settings = TrainingSettings.read(options.config, preset=options.preset, kept=options.kept)
    return json.loads(json.dumps(settings.as_dict()))


def _read(text: str) -> Asked:
    """Return a record. Raises ValueError or TypeError: it is none, or another version's."""
    asked = Asked(**json.loads(text))
    if not asked.given.keys() >= _GIVEN or not asked.signed.keys() >= _SIGNED:
        raise ValueError("a record that lacks something")
    return asked


def _from_manifest(folder: Path, session: Session) -> Asked | None:
    """Return what a manifest says of what was asked; its settings are not known."""
    try:
        signed = parse((folder / MANIFEST).read_bytes(), kind="contribution")
    except OSError:
        return None
    said = ContributionManifest.from_document(signed)
    readers = sorted(each.to_text() for each in recipients_in(folder))
    epsilon = said.dp.eps_milli / 1e3 if said.dp is not None else 0.0
    mean = said.dp is not None and said.dp.mechanism == "mean"
    given = {
        "title": said.title or None,
        "licence": said.licence,
        "pictures": said.pictures,
        "dp_epsilon": epsilon or None,
        "dp_mode": "mean" if mean else None,
        "steps": None,
        "seed": None,
        "shared": said.count > 0,
        "private_to": readers,
        "base": None,
    }
    stated = {"licence": said.licence, "title": said.title, "pictures": said.pictures}
    stated |= {"shared": said.count > 0, "readers": readers}
    return Asked(session.slot, session.fence, given, {"dp_epsilon": epsilon}, stated)


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return in words what differs of that which both name."""
    return [
        _said(name, before[name], value)
        for name, value in now.items()
        if name in before and before[name] != value
    ]


def _said(name: str, before: object, now: object) -> str:
    if name in _FILES or isinstance(now, list):
        return f"other {name}"
    return f"{name} {_shown(now)} in place of {_shown(before)}"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if value != "" else "none"
