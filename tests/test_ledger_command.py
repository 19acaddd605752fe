"""`orthofed ledger`: what is printed was proven; proofs stand alone; a fork is called one."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orthofed.client import ledger_command
from orthofed.client.channel import Channel
from orthofed.client.ledger_reader import LedgerReader, folder_reader, wire_reader
from orthofed.client.origin import WireOrigin
from orthofed.client.public_source import WireSource
from orthofed.client.pull import Pull
from orthofed.client.seen_heads import SeenHeads
from orthofed.core.errors import InputError, VerificationFailed
from orthofed.core.leaf import document_leaf, lease_leaf, release_leaf, spec_leaf

from .bad_bundles import with_claim
from .mirror import Mirror, SignedRelease, files, public_files, receipt_of, tiny_keyring, tiny_spec
from .plain_ledger import PlainLedger

RELEASE = SignedRelease.of(files())
LEAVES = [
    spec_leaf(tiny_spec().id),
    document_leaf(tiny_keyring()),
    *(
        lease_leaf(client="a" * 64, fence=n + 1, slot=n % 8, triggers=["wren-cat"])
        for n in range(300)
    ),
    release_leaf(manifest=RELEASE.manifest_id, n=1),
]
LONG = replace(
    RELEASE,
    public=public_files(
        LEAVES, RELEASE.log, RELEASE.reply, release=1, manifest=RELEASE.manifest_id
    ),
)


@pytest.fixture(scope="module")
def mirror() -> Iterator[Mirror]:
    with Mirror(LONG) as running:
        yield running


@pytest.fixture(scope="module")
def folder(mirror: Mirror, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pull a release whose ledger has 303 leaves."""
    out = tmp_path_factory.mktemp("pulled") / "release-1"
    address = mirror.address
    with Channel(address.host_port, ca=address.ca, log=address.log) as channel:
        Pull(WireOrigin(channel), address.log, out, SeenHeads(out.parent / "home")).run()
    return out


@pytest.fixture(params=["wire", "folder"])
def reader(
    request: pytest.FixtureRequest, mirror: Mirror, folder: Path, tmp_path: Path
) -> Iterator[LedgerReader]:
    if request.param == "folder":
        yield folder_reader(folder)
        return
    address = mirror.address
    with Channel(address.host_port, ca=address.ca, log=address.log) as channel:
        yield wire_reader(WireSource(channel), address.log, SeenHeads(tmp_path / "home"))


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", "from orthofed.__main__ import main; main()", "ledger"]
    return subprocess.run([*command, *map(str, words)], capture_output=True, text=True, check=False)


def test_the_leaves_are_those_of_the_ledger(reader: LedgerReader) -> None:
    """All 303, over two tiles; beyond the end there is nothing."""
    assert [body for _, body in reader.leaves(0, 1_000)] == LEAVES
    assert [*reader.leaves(250, 10)] == [*enumerate(LEAVES)][250:260]
    assert [*reader.leaves(303, 5)] == []


@pytest.mark.parametrize("leaf", [0, 1, 255, 256, 302])
def test_a_proof_of_any_leaf_is_that_of_the_plain_tree(leaf: int, reader: LedgerReader) -> None:
    """The lines of the file are RFC 6962's path, and it checks."""
    proof = reader.prove(leaf)

    lines = proof.split(b"\n\n")[0].decode().split("\n")
    path = PlainLedger(LEAVES).path(leaf, len(LEAVES))
    assert lines[3:] == [base64.b64encode(each).decode() for each in path]
    assert reader.check_proof(proof).index == leaf


def test_there_is_no_proof_of_a_leaf_that_is_not_there(reader: LedgerReader) -> None:
    """The text says which leaves there are."""
    with pytest.raises(InputError, match="leaf 303 of a ledger of 303 leaves") as caught:
        reader.prove(303)

    assert "0 to 302" in caught.value.why


def test_an_old_receipt_checks_and_one_of_another_history_does_not(reader: LedgerReader) -> None:
    """T17: a receipt signed by the ledger's key over other leaves shows the fork."""
    old = receipt_of(LEAVES[:200], RELEASE.log)
    forked = receipt_of([*LEAVES[:150], *LEAVES[160:200]], RELEASE.log)

    assert reader.check_proof(old).index == 199
    with pytest.raises(VerificationFailed, match="ledger's key signed two histories"):
        reader.check_proof(forked)


def test_a_leaf_that_was_changed_on_the_way_is_refused(tmp_path: Path) -> None:
    """The tile of leaves is another one than the tree's: no leaf of it is shown."""
    name = "tile/entries/001.p/47"
    changed = LONG.public[name].replace(b"wren-cat", b"wren-dog", 1)
    with Mirror(replace(LONG, public={**LONG.public, name: changed})) as mirror:
        address = mirror.address
        with Channel(address.host_port, ca=address.ca, log=address.log) as channel:
            reader = wire_reader(WireSource(channel), address.log, SeenHeads(tmp_path))
            with pytest.raises(VerificationFailed, match="check failed: ledger proof"):
                list(reader.leaves(0, 1_000))


def test_the_commands_show_prove_and_check(mirror: Mirror, folder: Path, tmp_path: Path) -> None:
    """A link over the wire, a folder without one; the proof of one checks against the other."""
    link, proof = mirror.address.to_text(), tmp_path / "leaf.proof"

    table = run("show", link, "--from", 300, "--home", tmp_path)
    as_json = json.loads(run("show", folder, "--count", 2, "--json").stdout)
    proven = run("prove", 300, link, "-o", proof, "--home", tmp_path)
    checked = json.loads(run("check", proof, folder, "--json").stdout)
    proof.write_bytes(proof.read_bytes().replace(b"index 300", b"index 299"))
    bad = run("check", proof, folder)
    nowhere = run("show", tmp_path / "nowhere")

    assert table.returncode == 0, table.stderr
    assert table.stdout.split("\n")[3].split() == [
        *("300", "lease", "2", "aaaaaaaaaaaa", "wren-cat"),
    ]
    assert [row["kind"] for row in as_json["leaves"]] == ["lease", "release"]
    assert as_json["size"] == 303
    assert proven.returncode == 0, proven.stderr
    assert (checked["leaf"], checked["kind"], checked["slot"]) == (300, "lease", 2)
    assert (bad.returncode, nowhere.returncode) == (4, 2)
    assert "check failed: ledger proof" in bad.stderr


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"doc": "x", "kind": "seal", "v": 1}, "seal"),
        ({"doc": {"kind": "seal"}, "kind": "contribution", "v": 1}, "contribution"),
        ({"kind": "lease", "triggers": 5, "v": 1}, "lease"),
        ({"kind": "a\x1b[2J", "v": 2}, "a\\x1b[2J"),
        ({"kind": 5}, "?"),
        (["kind"], "?"),
    ],
)
def test_a_leaf_of_a_later_version_is_shown_by_its_kind(body: object, kind: str) -> None:
    """What an earlier version cannot read must not hide the leaves around it."""
    row = ledger_command._row(7, json.dumps(body).encode())

    assert row == {"leaf": 7, "kind": kind}
    assert ledger_command._says(row) == ""


def test_a_contribution_whose_slot_is_no_number_hides_no_other_leaf(tmp_path: Path) -> None:
    """A release of it is refused; who looks into the ledger of a server for why is shown it."""
    leaves = [*LEAVES, with_claim(5, slot=[])[5]]
    public = public_files(
        leaves, RELEASE.log, RELEASE.reply, release=1, manifest=RELEASE.manifest_id
    )
    with Mirror(replace(LONG, public=public)) as server:
        shown = run("show", server.address.to_text(), "--from", 300, "--home", tmp_path)

    assert shown.returncode == 0, shown.stderr
    assert "303  contribution    []" in shown.stdout


def test_a_fork_that_pull_found_is_checked_by_its_file_alone(
    mirror: Mirror, folder: Path, tmp_path: Path
) -> None:
    """T17: seen 303 leaves; a server of another history is refused, and its file says FORKED."""
    other = [*LEAVES[:100], *LEAVES[101:303], *LEAVES[300:302]]
    public = public_files(
        other, RELEASE.log, RELEASE.reply, release=1, manifest=RELEASE.manifest_id
    )
    assert run("show", mirror.address.to_text(), "--home", tmp_path).returncode == 0
    with Mirror(replace(LONG, public=public)) as liar:
        refused = run("show", liar.address.to_text(), "--home", tmp_path)
    (file,) = tmp_path.rglob("*.fork-*.json")

    told = run("check", file, folder)

    assert refused.returncode == 4
    assert str(file) in refused.stderr
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("FORKED: the ledger's key signed 303 leaves, and then 304")
