"""Founds a federation: reads the base, fixes the spec, makes the keys, writes the first two leaves.

Laws: the spec is frozen from here on, and its hash with that of keyring 1 is the log id that every
invite pins (security.md 4.3); the folder appears whole or not at all (new_folder.py), with settings
that the next command can read. Cost: one pass over the base's files and
one norm a layer. Not here: choosing ranks (core/spec.py).
"""

import datetime as dt
import json
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..core.basis import Family
from ..core.document import Document, sign
from ..core.errors import InputError
from ..core.fields import NO_ID
from ..core.keyring import Keyring, log_id
from ..core.keys import SigningKey
from ..core.leaf import document_leaf, spec_leaf
from ..core.quiet import heard, with_quiet_columns
from ..core.spec import PROMPT, BaseModel, FederationSpec, Limits, plan_spec
from ..core.targets import Targets
from . import meta_rows, slot_rows
from .base import BaseFolder
from .clock import Clock
from .columns import measured
from .folder import DataFolder, Settings
from .fs import Fs
from .keyfile import save_key
from .ledger import Ledger
from .mark import check_place
from .new_folder import free_place, new_folder
from .store import Store
from .tls import make_authority

_FRESH_S = 7 * 86_400
_KEYRING_S = 365 * 86_400

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Choices:
    """What the operator chooses once. Exactly one of ``rank`` and ``capacity`` may be None.

    ``lambda_1024``: default merge weight in 1/1024. ``family``: basis. ``targets``: which layers
    are adapted; the spec keeps their list. ``layerwise_tokens``: a trigger has vectors of its own
    for each place where the UNet reads the prompt. ``prompt``: asks the base for a picture of
    ``{}`` in its own style. Texts: plain ASCII. ``seed``: the public one of
    the basis, 32 bytes; empty: drawn, which is right but where a run is to be repeated.
    ``prompts``: public ones, to find the basis' quiet columns on; empty: they stay as they stand.
    ``epochs``: how many bases the slots are of; with several, concepts overlap (core/overlap.py).
    """

    name: str
    rank: int | None = None
    capacity: int | None = None
    lambda_1024: int = 1024
    family: Family = "hadamard"
    targets: Targets = "attention"
    layerwise_tokens: bool = False
    base_name: str = ""
    base_revision: str = "local"
    base_licence: str = "LicenseRef-unknown"
    limits: Limits = field(default_factory=Limits)
    prompt: str = PROMPT
    seed: bytes = b""
    prompts: Sequence[str] = ()
    epochs: int = 1


def found(
    root: Path, choices: Choices, settings: Settings, *, clock: Clock, fs: Fs, say: Progress
) -> FederationSpec:
    """Make the coordinator's folder at ``root``, which is absent or empty; return the spec."""
    place = free_place(
        root,
        why="a coordinator owns its whole folder",
        fix="give a folder that does not exist yet",
    )
    data = _checked(settings, place)
    spec, norms = _plan(choices, settings, say)
    with new_folder(place, "init", fs=fs) as building:
        folder = DataFolder(building)
        folder.make(fs)
        say("making keys and certificates")
        _write(folder, spec, norms, clock=clock, fs=fs)
        fs.write_whole(folder.settings_file, data, mode=0o600)
    return spec


def _checked(settings: Settings, place: Path) -> bytes:
    """Return the settings file, which the next command reads; raises InputError now, not then."""
    try:
        data = settings.to_toml().encode()
        Settings.from_bytes(data, place / "coordinator.toml")
        mark = settings.mark_file(place)
        if mark.parent != place:
            check_place(mark)
    except UnicodeEncodeError as error:
        raise _bad_option(f"a name that is no text: {error.object!r}") from error
    except InputError as error:
        raise _bad_option(error.what) from error
    if mark.exists():
        raise _bad_option(f"{mark} is there already: the high-water mark of another federation")
    return data


def _bad_option(what: str) -> InputError:
    return InputError(
        what,
        why="the settings of a new federation have to be those that its coordinator can start on",
        fix="correct the option; nothing was made",
        code="bad-settings",
    )


def _plan(
    choices: Choices, settings: Settings, say: Progress
) -> tuple[FederationSpec, dict[str, float]]:
    base = BaseFolder(settings.base)
    say("hashing the base model")
    fingerprint = base.fingerprint()
    layers = base.layers(choices.targets)
    spec = plan_spec(
        name=choices.name,
        base=BaseModel(
            family=_family(base),
            name=choices.base_name or settings.base.resolve().name,
            revision=choices.base_revision,
            fingerprint=fingerprint,
            licence=choices.base_licence,
        ),
        layers=layers,
        encoders=base.encoders(),
        seed=choices.seed or secrets.token_bytes(32),
        basis=choices.family,
        rank=choices.rank,
        capacity=choices.capacity,
        lambda_1024=choices.lambda_1024,
        limits=choices.limits,
        reserved=base.vocabulary(),
        token_layers=base.token_layers() if choices.layerwise_tokens else (),
        prompt=choices.prompt,
        epochs=choices.epochs,
    )
    if choices.prompts and choices.family == "gaussian":
        raise InputError(
            "quiet columns of the basis gaussian",
            why="its blocks are drawn one by one, so there are no columns to deal",
            fix="choose the basis hadamard or haar, or leave the prompts away",
            code="bad-option",
        )
    if choices.prompts and choices.epochs > 1:
        raise InputError(
            f"quiet columns with {choices.epochs} bases",
            why="the prompts tell which columns of the first basis hear least, not of the others",
            fix="leave either the overlap or the quiet columns out",
            code="bad-option",
        )
    if choices.prompts:
        say(f"drawing {len(choices.prompts)} prompts to find quiet columns")
        energies = measured(spec, settings.base, [*choices.prompts])
        spec = with_quiet_columns(spec, energies)
        for width, share in heard(spec, energies).items():
            say(f"width {width}: a slot's columns hear {share:.2f} of what any column does")
    say(f"measuring {len(layers)} layers")
    return spec, base.measures(spec)


_SD1_WIDTHS = {320, 640, 768, 1280}
_SDXL_WIDTHS = {640, 768, 1280, 2048}


def _family(base: BaseFolder) -> str:
    """Return the base's family by its shape: the widths of its attention (formats.md 3.1)."""
    widths = {layer.width for layer in base.layers()}
    num_encoders = len(base.encoders())
    if widths == _SD1_WIDTHS and num_encoders == 1:
        return "sd1"
    if widths == _SDXL_WIDTHS and num_encoders > 1:
        return "sdxl"
    return "other"


def _write(
    folder: DataFolder, spec: FederationSpec, norms: dict[str, float], *, clock: Clock, fs: Fs
) -> None:
    now_s = clock.wall_s()
    ledger_key, release_key, root_key = (
        SigningKey.from_seed(secrets.token_bytes(32)) for _ in range(3)
    )
    ring = Keyring(
        fed=spec.id,
        fresh=_FRESH_S,
        ledger=ledger_key.public_hex,
        n=1,
        need=1,
        prev=NO_ID,
        release=(release_key.public_hex,),
        root=(root_key.public_hex,),
        t=now_s,
        until=now_s + _KEYRING_S,
    )
    keyring = sign("keyring", ring.to_body(), (root_key,))
    save_key(folder.keys, "ledger", ledger_key, fs=fs)
    save_key(folder.keys, "release", release_key, fs=fs)
    save_key(folder.keys, "root", root_key, fs=fs)
    make_authority(folder.keys, fs=fs, now=dt.datetime.fromtimestamp(now_s, dt.UTC))
    fs.write_whole(folder.public / "spec.json", spec.to_bytes())
    fs.write_whole(folder.public / "keyring" / "1.json", keyring.to_bytes())
    store = Store(folder.database, fs=fs, new=True)
    try:
        _fill(store, spec, norms, keyring, ledger_key)
    finally:
        store.close()


def _fill(
    store: Store,
    spec: FederationSpec,
    norms: dict[str, float],
    keyring: Document,
    ledger_key: SigningKey,
) -> None:
    """Write the first rows and leaves in one transaction."""
    log = log_id(spec.id, keyring.id)
    ledger = Ledger(ledger_key, log)

    def fill(db: sqlite3.Connection) -> None:
        values = [
            ("spec", spec.to_bytes()),
            ("log", log.encode()),
            ("norms", json.dumps(norms).encode()),
        ]
        meta_rows.set_values(db, values)
        meta_rows.add_keyring(db, 1, keyring.to_bytes())
        slot_rows.make(db, spec.capacity)
        ledger.append(db, spec_leaf(spec.id))
        ledger.append(db, document_leaf(keyring))

    store.run(fill)
