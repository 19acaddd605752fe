"""The cases of test_bad_bundles.py: a change of one good folder, and the check that refuses it.

Attackers: a mirror without keys, a thief with one of the keys, a coordinator with all of them that
drops something in silence. ``CASES`` maps a readable name to a change of the folder's files (name
to bytes) and the name of the check.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from orthofed.core.canonical import decode, encode
from orthofed.core.document import parse, sign
from orthofed.core.keys import SigningKey
from orthofed.core.leaf import (
    Verdict,
    admission_leaf,
    document_leaf,
    lease_leaf,
    release_leaf,
    spec_leaf,
)

from .bundles import OWNERS, Parts, content, contributed, first, founded, good, keyring
from .mirror import LEDGER, NOW_S, RELEASE, ROOT
from .plain_ledger import PlainLedger

THIEF = SigningKey.from_seed(b"\x63" * 32)
GOOD, OLD = good(), first()
FOLDER, OLD_FOLDER = GOOD.folder(), OLD.folder()
OTHER = founded(fresh=604_799).folder()
"""A whole bundle of another federation, whose keys are the same."""
RING = GOOD.keyrings[0]
RING_2 = keyring(2, RING, [ROOT], release=(THIEF.public_hex,))
RING_3 = keyring(2, RING, [ROOT], ledger=THIEF.public_hex)
_leaf: Any = decode(GOOD.leaves[7])
WORD: dict[str, Any] = _leaf["doc"]["body"]
LORA = "lora/tiny-r0002.safetensors"
CARD, INFO, VECTORS = "card.md", "info.json", "embeddings/bert-k7.safetensors"
MANIFEST, PROOF, LOG = "manifest.json", "trust/release.proof", "trust/log"
NOTE, HEAD, SPEC = "trust/checkpoint", "trust/head.json", "trust/spec.json"
KEYS, LEAVES = "trust/keyring/1.json", "trust/tile/entries/000.p/11"

ODD: tuple[tuple[str, object], ...] = (
    *(("slot", value) for value in ("1", [], {}, True)),
    *(("client", value) for value in (1, [], "A" * 64)),
    *(("count", value) for value in ("x", 0, [])),
    *(("form", value) for value in ([], "hidden")),
    *(("replaces", value) for value in (1, {}, {"client": "a" * 64, "leaf": [1]})),
    *(("share", value) for value in (1, [], {}, {"leaf": 3, "slot": {}})),
)
"""Values that no contribution has, in a leaf that is canonical and signed."""

Folder = dict[str, bytes]


def said(leaf: int, verdict: Verdict) -> bytes:
    """Return an admission."""
    return admission_leaf(leaf=leaf, verdict=verdict, why="retention")


def write(name: str, data: bytes | None) -> Callable[[Folder], Folder]:
    """Return a change that writes one file, or removes it."""

    def change(folder: Folder) -> Folder:
        rest = {key: value for key, value in folder.items() if key != name}
        return rest if data is None else rest | {name: data}

    return change


def flipped(name: str) -> Callable[[Folder], Folder]:
    """Return a change of one bit in the middle of a file."""
    data = FOLDER[name]
    at = len(data) // 2
    return write(name, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def made(parts: Parts) -> Callable[[Folder], Folder]:
    """Return a change that makes the whole folder anew."""
    return lambda _: parts.folder()


def renamed(name: str, new: str) -> Callable[[Folder], Folder]:
    """Return a change that calls a file otherwise."""
    return lambda folder: write(name, None)(folder) | {new: folder[name]}


def signed(parts: Parts, **changes: Any) -> Callable[[Folder], Folder]:
    """Return a change of the manifest alone, signed again by ``parts``' signers."""
    return write(MANIFEST, parts.told(**changes).signed.to_bytes())


def with_leaf(index: int, leaf: bytes) -> tuple[bytes, ...]:
    """Return the ledger's leaves before the release with another one at ``index``."""
    return (*GOOD.leaves[:index], leaf, *GOOD.leaves[index + 1 :])


def with_claim(index: int, **changes: object) -> tuple[bytes, ...]:
    """Return the leaves with other fields, signed anew, in the contribution at ``index``."""
    leaf: Any = decode(GOOD.leaves[index])
    body = {**leaf["doc"]["body"], **changes}
    return with_leaf(index, document_leaf(sign("contribution", body, OWNERS.values())))


def withdrawn(**changes: object) -> bytes:
    """Return the leaf of the withdrawal with other fields, signed by its owner."""
    return document_leaf(sign("withdrawal", {**WORD, **changes}, [OWNERS["anna"]]))


def lined(name: str, *, drop: int | None = None, add: bytes | None = None) -> bytes:
    """Return a file with a line less or more, the last one of the proof's hashes."""
    lines = FOLDER[name].split(b"\n")
    end = lines.index(b"")
    if drop is not None:
        del lines[end - drop]
    return b"\n".join(lines if add is None else [*lines[:end], add, *lines[end:]])


def told(name: str, value: object) -> bytes:
    """Return the manifest with one field changed, and the signature as it was."""
    doc: Any = decode(FOLDER[MANIFEST])
    doc["body"][name] = value
    return encode(doc)


ENTRIES: list[dict[str, Any]] = GOOD.manifest["files"]
FILES: dict[str, tuple[Callable[[Folder], Folder], str]] = {
    **{f"{name} with one bit flipped": (flipped(name), "file hash") for name in content(2)},
    **{f"{name} cut": (write(name, FOLDER[name][:-1]), "file hash") for name in content(2)},
    **{f"{name} longer": (write(name, FOLDER[name] + b"\n"), "file hash") for name in content(2)},
    **{f"{name} missing": (write(name, None), "folder") for name in content(2)},
    "an empty sidecar": (write(CARD, b""), "file hash"),
    "a file renamed": (renamed(LORA, "lora/tiny-r0003.safetensors"), "folder"),
    "a file in another case": (renamed(CARD, "Card.md"), "folder"),
    "a file in another folder": (renamed(CARD, "lora/card.md"), "folder"),
    "two files that changed places": (
        lambda f: f | {CARD: f[INFO], INFO: f[CARD]},
        "file hash",
    ),
    "the LoRA of release 1": (write(LORA, content(1)["lora/tiny-r0001.safetensors"]), "file hash"),
    "the sidecars of release 1": (
        lambda f: f | {CARD: content(1)[CARD], INFO: content(1)[INFO]},
        "file hash",
    ),
    "an extra file": (write("note.txt", b"x"), "folder"),
    "a hidden extra file": (write("lora/.x", b""), "folder"),
    "an extra pickle": (write("checkpoint/unet/model.bin", b"\x80\x04."), "folder"),
    "what an unfinished pull left": (write(".pull/log", b""), "folder"),
    "an extra proof": (write("trust/release.proof2", b"x"), "folder"),
    "an extra tile": (write("trust/tile/entries/001.p/1", b"\0\1x"), "folder"),
}
TRUST: dict[str, tuple[Callable[[Folder], Folder], str]] = {
    "no manifest": (write(MANIFEST, None), "folder"),
    "a manifest that somebody else signed too": (
        write(MANIFEST, sign("release", GOOD.signed.body, [RELEASE, THIEF]).to_bytes()),
        "release signature",
    ),
    "a head that somebody else signed too": (
        write(
            HEAD,
            sign("head", parse(FOLDER[HEAD], kind="head").body, [LEDGER, THIEF]).to_bytes(),
        ),
        "head",
    ),
    "a keyring that somebody else signed too": (
        write(KEYS, sign("keyring", RING.body, [ROOT, THIEF]).to_bytes()),
        "ledger",
    ),
    "a head that keeps the newest release back": (
        made(replace(GOOD, head={"release": 1, "manifest": OLD.signed.id})),
        "head",
    ),
    "a head of a release to come": (made(replace(GOOD, head={"release": 3})), "head"),
    "a head with another manifest": (made(replace(GOOD, head={"manifest": "5" * 64})), "head"),
    "a witness whose name moves the cursor": (
        write(NOTE, FOLDER[NOTE] + "\u2014 evil\x1b[2Jname AAAA\n".encode()),
        "checkpoint",
    ),
    "no log id": (write(LOG, None), "log id"),
    "no spec": (write(SPEC, None), "spec"),
    "no keyring": (write(KEYS, None), "keyring"),
    "no checkpoint": (write(NOTE, None), "checkpoint"),
    "no head": (write(HEAD, None), "head"),
    "no leaves": (write(LEAVES, None), "ledger"),
    "no proof": (write(PROOF, None), "ledger proof"),
    "another log id": (write(LOG, b"0" * 64 + b"\n"), "log id"),
    "a log id without its newline": (write(LOG, FOLDER[LOG][:-1]), "log id"),
    "a spec with one more space": (write(SPEC, FOLDER[SPEC] + b" "), "spec"),
    "the keyring of another federation": (write(KEYS, OTHER[KEYS]), "log id"),
    "a keyring signed by a thief": (
        write(KEYS, sign("keyring", RING.body, [THIEF]).to_bytes()),
        "keyring",
    ),
    "a keyring with a field of tomorrow": (
        write(KEYS, sign("keyring", {**RING.body, "x": 1}, [ROOT]).to_bytes()),
        "keyring",
    ),
    "a keyring of version 2": (
        write(KEYS, sign("keyring", {**RING.body, "v": 2}, [ROOT]).to_bytes()),
        "keyring",
    ),
    "a second keyring that only its own roots signed": (
        write(
            "trust/keyring/2.json",
            keyring(2, RING, [THIEF], root=(THIEF.public_hex,)).to_bytes(),
        ),
        "keyring",
    ),
    "a second keyring that the ledger does not hold": (
        write("trust/keyring/2.json", keyring(2, RING, [ROOT], fresh=9).to_bytes()),
        "ledger",
    ),
    "a keyring that follows nothing": (
        write("trust/keyring/3.json", keyring(3, RING, [ROOT]).to_bytes()),
        "folder",
    ),
    "the checkpoint of release 1": (write(NOTE, OLD_FOLDER[NOTE]), "head"),
    "the head of release 1": (write(HEAD, OLD_FOLDER[HEAD]), "head"),
    "head and checkpoint of release 1": (
        lambda f: f | {NOTE: OLD_FOLDER[NOTE], HEAD: OLD_FOLDER[HEAD]},
        "ledger",
    ),
    "the checkpoint of another federation": (write(NOTE, OTHER[NOTE]), "checkpoint"),
    "the head of another federation": (write(HEAD, OTHER[HEAD]), "head"),
    "a checkpoint signed by a thief": (
        write(NOTE, replace(GOOD, ledger_key=THIEF).folder()[NOTE]),
        "checkpoint",
    ),
    "a checkpoint signed by the release key": (
        write(NOTE, replace(GOOD, ledger_key=RELEASE).folder()[NOTE]),
        "checkpoint",
    ),
    "a head signed by a thief": (
        write(HEAD, replace(GOOD, ledger_key=THIEF).folder()[HEAD]),
        "head",
    ),
    "a head with a field of tomorrow": (
        write(
            HEAD,
            sign("head", {**parse(FOLDER[HEAD], kind="head").body, "x": 1}, [LEDGER]).to_bytes(),
        ),
        "head",
    ),
    "a head of version 2": (
        write(
            HEAD,
            sign("head", {**parse(FOLDER[HEAD], kind="head").body, "v": 2}, [LEDGER]).to_bytes(),
        ),
        "head",
    ),
    "a head of a time to come": (made(replace(GOOD, head={"t": NOW_S + 9_999})), "freeze"),
    "a release key in place of the head": (write(HEAD, FOLDER[MANIFEST]), "head"),
    "a checkpoint of 17 KiB": (write(NOTE, FOLDER[NOTE] + b"x" * (17 << 10)), "checkpoint"),
    "a head of 5 KiB": (write(HEAD, FOLDER[HEAD] + b" " * (5 << 10)), "head"),
    "a keyring of 9 KiB": (write(KEYS, FOLDER[KEYS] + b" " * (9 << 10)), "keyring"),
    "a leaf less": (
        write(LEAVES, PlainLedger(GOOD.bodies[:-1]).tiles(10)["tile/entries/000.p/10"]),
        "ledger",
    ),
    "a leaf more": (
        write(
            LEAVES,
            PlainLedger([*GOOD.bodies, GOOD.bodies[2]]).tiles(12)["tile/entries/000.p/12"],
        ),
        "ledger",
    ),
    "two leaves that changed places": (
        write(
            LEAVES,
            PlainLedger(
                [*GOOD.bodies[:2], GOOD.bodies[4], GOOD.bodies[3], GOOD.bodies[2], *GOOD.bodies[5:]]
            ).tiles(11)["tile/entries/000.p/11"],
        ),
        "ledger",
    ),
    "a leaf with one bit flipped": (flipped(LEAVES), "ledger"),
    "leaves cut inside a length": (write(LEAVES, FOLDER[LEAVES][:-1]), "ledger"),
    "a proof with a hash to spare": (
        write(PROOF, lined(PROOF, add=b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")),
        "ledger proof",
    ),
    "a proof with a hash less": (write(PROOF, lined(PROOF, drop=1)), "ledger proof"),
    "a proof of another index": (
        write(PROOF, FOLDER[PROOF].replace(b"index 10", b"index 9")),
        "ledger proof",
    ),
    "the proof of release 1": (write(PROOF, OLD_FOLDER[PROOF]), "ledger proof"),
    "the proof of another federation": (write(PROOF, OTHER[PROOF]), "ledger proof"),
    "a proof under a checkpoint with a cosignature more": (
        write(PROOF, FOLDER[PROOF] + "\u2014 witness AAAA\n".encode()),
        "ledger proof",
    ),
}
MANIFESTS: dict[str, tuple[Callable[[Folder], Folder], str]] = {
    "a manifest signed by a thief": (signed(replace(GOOD, signers=(THIEF,))), "release signature"),
    "a manifest signed by the ledger key": (
        signed(replace(GOOD, signers=(LEDGER,))),
        "release signature",
    ),
    "a manifest signed by a root": (signed(replace(GOOD, signers=(ROOT,))), "release signature"),
    "a manifest signed by a contributor": (
        signed(replace(GOOD, signers=(OWNERS["bert"],))),
        "release signature",
    ),
    "a manifest with a false signature beside the right one": (
        write(
            MANIFEST,
            encode(
                {
                    **GOOD.signed.value,
                    "sigs": sorted(
                        [
                            {"key": s.key, "sig": s.sig}
                            for s in (
                                *GOOD.signed.sigs,
                                replace(GOOD.signed.sigs[0], key=THIEF.public_hex),
                            )
                        ],
                        key=lambda each: each["key"],
                    ),
                }
            ),
        ),
        "release signature",
    ),
    "a manifest with one signature twice": (
        write(
            MANIFEST,
            encode({**GOOD.signed.value, "sigs": 2 * GOOD.signed.value["sigs"]}),  # pyright: ignore[reportOperatorIssue]  # a list
        ),
        "manifest",
    ),
    "a manifest without a signature": (
        write(MANIFEST, encode({**GOOD.signed.value, "sigs": []})),
        "manifest",
    ),
    "a manifest whose signature is of another body": (
        write(MANIFEST, told("t", NOW_S - 61)),
        "ledger proof",
    ),
    "a manifest that the ledger does not hold": (signed(GOOD, t=NOW_S - 61), "ledger proof"),
    "the manifest of release 1": (write(MANIFEST, OLD_FOLDER[MANIFEST]), "ledger proof"),
    "the manifest of another federation": (write(MANIFEST, OTHER[MANIFEST]), "manifest"),
    "a manifest of version 2": (made(GOOD.told(v=2)), "manifest"),
    "a manifest with a field of tomorrow": (made(GOOD.told(extra=1)), "manifest"),
    "a manifest without a field": (
        made(replace(GOOD, manifest={k: v for k, v in GOOD.manifest.items() if k != "prev"})),
        "manifest",
    ),
    "a manifest of another merge rule": (made(GOOD.told(merge=2)), "manifest"),
    "a manifest with a space more": (write(MANIFEST, FOLDER[MANIFEST] + b" "), "manifest"),
    "a manifest with a key twice": (
        write(MANIFEST, FOLDER[MANIFEST].replace(b'{"body"', b'{"body":{},"body"', 1)),
        "manifest",
    ),
    "a manifest of another log": (made(GOOD.told(log="5" * 64)), "manifest"),
    "a manifest of another spec": (made(GOOD.told(fed="5" * 64)), "manifest"),
    "a keyring in place of the manifest": (write(MANIFEST, FOLDER[KEYS]), "manifest"),
    "a lambda of 3": (
        made(GOOD.told(contributions=[{"lambda": 3_072, "leaf": 5}, {"lambda": 1, "leaf": 9}])),
        "manifest",
    ),
    "a reason that does not exist": (
        made(GOOD.told(left_out=[{"leaf": 3, "why": "forgotten"}])),
        "manifest",
    ),
    **{
        f"a file called {name!r}": (
            made(GOOD.told(files=[{**ENTRIES[0], "name": name}, *ENTRIES[1:]])),
            "manifest",
        )
        for name in (
            *("../card.md", "/card.md", "a/b/c/d.md", "Card.md", "con.md", "card.md."),
            *("manifest.json", "manifest.json/x", "trust", "trust/log", "card md", ""),
        )
    },
    "a file listed twice": (made(GOOD.told(files=[ENTRIES[0], *ENTRIES])), "manifest"),
    "a file with a chunk too many": (
        made(GOOD.told(files=[{**ENTRIES[0], "chunks": ["0" * 64] * 2}, *ENTRIES[1:]])),
        "manifest",
    ),
    "a file of another length": (
        made(GOOD.told(files=[{**ENTRIES[0], "bytes": 16}, *ENTRIES[1:]])),
        "file hash",
    ),
    "a file with another hash": (
        made(GOOD.told(files=[{**ENTRIES[0], "sha256": "0" * 64}, *ENTRIES[1:]])),
        "file hash",
    ),
    **{
        f"a signed {name}": (made(GOOD.with_files({**GOOD.files, name: b"\x80\x04."})), "header")
        for name in ("checkpoint/unet/model.bin", "checkpoint/pipeline.py", "lora/x.pt", "run")
    },
    "a signed file with a header that no loader should see": (
        made(GOOD.with_files({**GOOD.files, LORA: b"\xff" * 64})),
        "header",
    ),
}
LEDGERS: dict[str, tuple[Callable[[Folder], Folder], str]] = {
    "a contribution dropped in silence": (made(GOOD.told(left_out=[])), "completeness"),
    "a contribution in both lists": (
        made(GOOD.told(left_out=[{"leaf": n, "why": "withdrawn"} for n in (3, 5)])),
        "manifest",
    ),
    "a contribution that is a lease": (
        made(
            GOOD.told(
                contributions=[{"lambda": 1024, "leaf": n} for n in (5, 8, 9)],
            )
        ),
        "completeness",
    ),
    "a contribution from behind its own size": (made(GOOD.told(size=9)), "manifest"),
    "a size from behind its own leaf": (made(GOOD.told(size=11)), "ledger proof"),
    "a contribution that was withdrawn before": (
        made(
            GOOD.told(contributions=[{"lambda": 1024, "leaf": n} for n in (3, 5, 9)], left_out=[])
        ),
        "completeness",
    ),
    "a contribution left out as withdrawn that nobody withdrew": (
        made(
            GOOD.told(
                contributions=[{"lambda": 1024, "leaf": 9}],
                left_out=[{"leaf": n, "why": "withdrawn"} for n in (3, 5)],
            )
        ),
        "completeness",
    ),
    "a contribution that the ledger keeps in quarantine": (
        made(replace(GOOD.told(size=11), leaves=(*GOOD.leaves, said(9, "quarantined")))),
        "completeness",
    ),
    "a contribution left out as quarantined that stands accepted": (
        made(
            GOOD.told(
                contributions=[{"lambda": 1024, "leaf": 5}],
                left_out=[{"leaf": 3, "why": "withdrawn"}, {"leaf": 9, "why": "quarantined"}],
            )
        ),
        "completeness",
    ),
    "a plan from before a withdrawal, published after it": (
        made(
            GOOD.told(
                contributions=[{"lambda": 1024, "leaf": n} for n in (3, 5)], left_out=[], size=7
            )
        ),
        "completeness",
    ),
    "a plan from before a quarantine, published after it": (
        made(replace(GOOD, leaves=(*GOOD.leaves, said(9, "quarantined")))),
        "completeness",
    ),
    "a plan from before the release before it": (
        made(
            GOOD.told(
                contributions=[{"lambda": 1024, "leaf": n} for n in (3, 5)], left_out=[], size=6
            )
        ),
        "ledger proof",
    ),
    "a plan from before there was anything": (
        made(GOOD.told(contributions=[], left_out=[], size=2)),
        "ledger proof",
    ),
    "a public contribution left out as private": (
        made(
            GOOD.told(
                contributions=[{"lambda": 1024, "leaf": 9}],
                left_out=[{"leaf": 3, "why": "withdrawn"}, {"leaf": 5, "why": "private"}],
            )
        ),
        "completeness",
    ),
    "a private contribution in the release": (
        made(replace(GOOD, leaves=with_claim(5, form="private", plain="1" * 64, wraps="2" * 64))),
        "completeness",
    ),
    "a withdrawn contribution left out as private": (
        made(
            replace(
                GOOD.told(left_out=[{"leaf": 3, "why": "private"}]),
                leaves=with_claim(3, form="private", plain="1" * 64, wraps="2" * 64),
            )
        ),
        "completeness",
    ),
    "a withdrawn contribution written down once more": (
        made(
            replace(
                GOOD.told(contributions=[{"lambda": 1024, "leaf": n} for n in (5, 9, 10)], size=11),
                leaves=(*GOOD.leaves, GOOD.leaves[3]),
            )
        ),
        "completeness",
    ),
    "a contribution left out by a withdrawal for another ledger": (
        made(replace(GOOD, leaves=with_leaf(7, withdrawn(log="5" * 64)))),
        "completeness",
    ),
    "a contribution left out by a withdrawal for another federation": (
        made(replace(GOOD, leaves=with_leaf(7, withdrawn(fed="5" * 64)))),
        "completeness",
    ),
    "a contribution to another ledger": (
        made(replace(GOOD, leaves=with_claim(5, log="5" * 64))),
        "ledger",
    ),
    "a contribution to another federation": (
        made(replace(GOOD, leaves=with_claim(5, fed="5" * 64))),
        "ledger",
    ),
    **{
        f"a contribution whose {name} is {value!r}": (
            made(replace(GOOD, leaves=with_claim(5, **{name: value}))),
            "ledger",
        )
        for name, value in ODD
    },
    "an admission of a contribution that is not there": (
        made(replace(GOOD.told(size=11), leaves=(*GOOD.leaves, said(8, "quarantined")))),
        "completeness",
    ),
    "two contributions of one slot": (
        made(
            replace(
                GOOD.told(contributions=[{"lambda": 1024, "leaf": n} for n in (5, 9, 11)], size=12),
                leaves=(*GOOD.leaves, *contributed("bert", GOOD.log_id)),
            )
        ),
        "completeness",
    ),
    "a release that skips its predecessor": (made(GOOD.told(prev="7" * 64)), "ledger proof"),
    "a release number that skips": (made(GOOD.told(n=3)), "ledger proof"),
    "a first release that has a predecessor": (made(GOOD.told(n=1)), "manifest"),
    "two leaves of one release": (
        made(
            replace(
                GOOD,
                after=(release_leaf(manifest="5" * 64, n=2),),
                head={"manifest": "5" * 64},
            )
        ),
        "ledger proof",
    ),
    "a leaf of another manifest": (
        made(
            replace(
                GOOD,
                leaf=release_leaf(manifest="5" * 64, n=2),
                head={"manifest": "5" * 64},
            )
        ),
        "ledger proof",
    ),
    "no leaf of the release": (
        made(
            replace(
                GOOD,
                leaf=lease_leaf(client="a" * 64, fence=1, slot=5, triggers=["abc"]),
                head={"manifest": OLD.signed.id, "release": 1},
            )
        ),
        "ledger proof",
    ),
    "a ledger of another spec": (
        made(replace(GOOD, leaves=(spec_leaf("5" * 64), *GOOD.leaves[1:]))),
        "ledger",
    ),
    "a ledger without its keyring": (
        made(replace(GOOD, leaves=(GOOD.leaves[0], *GOOD.leaves[2:], GOOD.leaves[2]))),
        "ledger",
    ),
    "a ledger with a keyring that is not shown": (
        made(replace(GOOD, after=(document_leaf(keyring(2, RING, [ROOT], fresh=9)),))),
        "ledger",
    ),
    "a leaf that is no canonical JSON": (made(replace(GOOD, after=(b"{ }",))), "ledger"),
    "a withdrawal that somebody else signed": (
        made(
            replace(
                GOOD,
                leaves=(
                    *GOOD.leaves[:7],
                    document_leaf(sign("withdrawal", WORD, [THIEF])),
                    *GOOD.leaves[8:],
                ),
            )
        ),
        "completeness",
    ),
    "a keyring that ran out": (
        made(founded(t=NOW_S - 9_000, until=NOW_S - 8_000)),
        "expiry",
    ),
    "a release signed after its keyring ran out": (
        made(GOOD.told(t=NOW_S + 400 * 86_400)),
        "expiry",
    ),
    "a release signed by the keys of a keyring that came later": (
        made(
            replace(
                GOOD,
                signers=(THIEF,),
                keyrings=(RING, RING_2),
                after=(document_leaf(RING_2),),
            )
        ),
        "release signature",
    ),
    "a checkpoint by the old ledger key after a rotation": (
        made(
            replace(
                GOOD,
                keyrings=(RING, RING_3),
                after=(document_leaf(RING_3),),
            )
        ),
        "checkpoint",
    ),
}
CASES = FILES | TRUST | MANIFESTS | LEDGERS
