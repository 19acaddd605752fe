"""`orthofed pull --as`, and pulling again: part of a release, and the next one, in one folder."""

import json
import shutil
from pathlib import Path

import pytest

from orthofed.client.channel import Channel
from orthofed.client.origin import WireOrigin
from orthofed.client.pull import Pull
from orthofed.client.seen_heads import SeenHeads
from orthofed.client.verify import verify_folder
from orthofed.core.address import FederationAddress
from orthofed.core.errors import InputError, VerificationFailed

from .coordinator_process import run
from .member import Leased, Member
from .mirror import Mirror, SignedRelease, tensor_file
from .serving import Running, founded, running


def contributed(member: Member, name: str, seed: int) -> Leased:
    lease = member.lease(name, (f"{name}-k7",))
    member.contribute(member.pack(lease, seed=seed, pictures=True))
    return lease


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One release of two concepts."""
    with running(founded(tmp_path_factory.mktemp("shared"))) as coordinator:
        member = coordinator.member()
        for seed, name in enumerate(("anna", "bert")):
            contributed(member, name, seed)
        coordinator.release()
        yield coordinator


def pull(coordinator: Running, out: Path, *words: str, check: bool = True):
    home = ("--home", str(out.parent / "home"), "--patience", "10")
    return run("pull", coordinator.desk.link(), "-o", str(out), *words, *home, check=check)


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def kohya(shared: Running, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("kohya") / "out"
    told = pull(shared, out, "--as", "kohya").stdout
    assert "5 files of " in told
    return out


def test_only_the_files_of_one_kind_come_and_verify_says_so(kohya):
    """The stacked LoRA and the vectors; k of n files; exit code 0."""
    told = json.loads(run("verify", str(kohya), "--json").stdout)
    text = run("verify", str(kohya)).stdout

    files = {name for name in names(kohya) if not name.startswith("trust/")}
    assert files == {
        "lora/wren-fed-r0001.safetensors",
        "embeddings/anna-k7.safetensors",
        "embeddings/bert-k7.safetensors",
        *("info.json", "card.md", "manifest.json"),
    }
    assert (told["files"], told["as"]) == (5, ["kohya"])
    assert told["of_files"] > 5
    assert f"5 files of {told['of_files']}, for kohya" in text


def removed(name: str):
    return lambda folder: (folder / name).unlink()


def flipped(folder: Path) -> None:
    path = folder / "lora" / "wren-fed-r0001.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def more(folder: Path) -> None:
    (folder / "concepts").mkdir()
    (folder / "concepts" / "wren-fed-anna.safetensors").write_bytes(b"x")


CHANGES = {
    "a vector removed": removed("embeddings/anna-k7.safetensors"),
    "the LoRA removed": removed("lora/wren-fed-r0001.safetensors"),
    "the card removed": removed("card.md"),
    "the choice removed": removed("trust/choice.json"),
    "another choice": lambda f: (f / "trust/choice.json").write_text('{"as":["checkpoint"],"v":1}'),
    "no known choice": lambda f: (f / "trust/choice.json").write_text('{"as":["onnx"],"v":1}'),
    "an empty choice": lambda f: (f / "trust/choice.json").write_text('{"as":[],"v":1}'),
    "a byte flipped": flipped,
    "a file of the release that was not chosen": more,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_partial_folder_is_held_to_its_choice(change, kohya, tmp_path):
    """T16: a removed file is missing, whatever else is there: exit code 4."""
    shutil.copytree(kohya, tmp_path / "out")
    change(tmp_path / "out")

    done = run("verify", str(tmp_path / "out"), check=False)

    assert done.returncode == 4, done.stdout + done.stderr


@pytest.mark.parametrize(
    "record",
    [
        b'{"as":["onnx"],"v":1}',
        b'{"as":["kohya","kohya"],"v":1}',
        b'{"as":["peft","kohya"],"v":1}',
    ],
)
def test_a_record_of_a_choice_that_no_pull_wrote_is_refused(record, kohya, tmp_path):
    """A program that there is not, one twice, or out of order: exit code 4."""
    shutil.copytree(kohya, tmp_path / "out")
    (tmp_path / "out" / "trust" / "choice.json").write_bytes(record)

    done = run("verify", str(tmp_path / "out"), check=False)

    assert done.returncode == 4, done.stdout + done.stderr
    assert "names kinds of files that there are not" in done.stderr


@pytest.mark.parametrize("kind", ["onnx"])
def test_a_kind_that_was_not_published_is_refused(kind, shared, tmp_path):
    """Exit code 2, and which kinds there are."""
    done = pull(shared, tmp_path / "out", "--as", kind, check=False)

    assert done.returncode == 2
    assert "kohya" in done.stderr


@pytest.mark.parametrize("kind", ["full", "checkpoint"])
def test_a_release_that_describes_no_full_file_says_how_to_make_one(kind, tmp_path):
    """An earlier version published it: info.json has no `derived`. Composing needs no hash."""
    release = SignedRelease.of(
        {"info.json": b'{"v":1}', "lora/tiny-r0001.safetensors": tensor_file(2)}
    )
    with Mirror(release) as mirror:
        link = mirror.address
        with Channel(link.host_port, ca=link.ca, log=link.log) as channel:
            seen = SeenHeads(tmp_path / "home")
            pulled = Pull(WireOrigin(channel), link.log, tmp_path / "out", seen)
            with pytest.raises(InputError) as refused:
                pulled.run(kinds=(kind,))
        fetched = {name for name, *_ in mirror.reads}

    assert refused.value.code == "not-published"
    assert f"--as {kind} with a --concept for each concept" in refused.value.fix
    assert "--base FOLDER" in refused.value.fix
    assert fetched <= {"info.json"}


def test_a_folder_becomes_what_the_last_pull_says(shared, tmp_path):
    """Part, then all, then another part: each verifies, and the same files stay."""
    out = tmp_path / "out"
    for words in (("--as", "kohya"), (), ("--as", "checkpoint")):
        pull(shared, out, *words)
        found = verify_folder(out)
        assert found.kinds == tuple(words[1:])

    assert not (out / "lora").exists()


def test_a_part_cannot_be_rebuilt(shared, kohya):
    """A rebuild compares all files: said in one sentence, exit code 2."""
    base = str(shared.house.settings.base)

    done = run("verify", str(kohya), "--rebuild", "--base", base, check=False)

    assert done.returncode == 2
    assert "pulled for kohya alone" in done.stderr


class _Killed(Exception):  # not an error: the test's own stop
    """The process ends here."""


class Older(WireOrigin):
    """A server that always gives the first release's manifest: signed, and in the ledger."""

    def manifest(self, n: int) -> bytes:
        del n
        return super().manifest(1)


def test_the_next_release_comes_into_the_same_folder(tmp_path):
    """Anna withdraws, Cleo comes: Anna's files go, Bert's are not fetched again, and it verifies.

    The update is stopped on its way once; the release before is refused then, and the same command
    ends it.
    """
    out = tmp_path / "out"
    with running(founded(tmp_path)) as coordinator:
        member = coordinator.member()
        leases = [contributed(member, n, seed) for seed, n in enumerate(("anna", "bert"))]
        coordinator.release()
        pull(coordinator, out, "--contributions")
        leaf = member.check(member.status(leases[0]).receipt).index
        member.withdraw(leases[0], leaf)
        contributed(member, "cleo", 7)
        coordinator.release()
        fetched = list[str]()
        address = FederationAddress.from_text(coordinator.desk.link())
        with Channel(address.host_port, ca=address.ca, log=address.log) as channel:
            seen = SeenHeads(tmp_path / "home")

            def stop(name: str, *_: object) -> None:
                fetched.append(name)
                raise _Killed

            with pytest.raises(_Killed):
                Pull(WireOrigin(channel), address.log, out, seen, stop).run()
            with pytest.raises(InputError, match="begun with release 2, not 1"):
                Pull(WireOrigin(channel), address.log, out, seen).run(1)
            kept = Pull(
                WireOrigin(channel), address.log, out, seen, lambda n, *_: fetched.append(n)
            )
            kept.run()
            older = Pull(Older(channel), address.log, tmp_path / "other", seen)
            with pytest.raises(VerificationFailed, match="release 1 was served, asked for was 2"):
                older.run(2)
        found = verify_folder(out)
        told = pull(coordinator, out).stdout

    assert found.release.manifest.n == 2
    assert "left out of it: 1 withdrawn" in told
    assert not [name for name in names(out) if "anna" in name]
    assert "concepts/wren-fed-cleo.safetensors" in fetched
    assert "concepts/wren-fed-bert.safetensors" not in fetched
    assert "embeddings/bert-k7.safetensors" not in fetched


def test_an_update_with_contributions_fetches_no_lora(tmp_path):
    """The blob of the new concept comes; stacked LoRA and concepts' files are made of the blobs.

    A blob that the folder has is not asked for again; every file has its signed hash.
    """
    out, fetched = tmp_path / "out", list[str]()
    with running(founded(tmp_path)) as coordinator:
        member = coordinator.member()
        for seed, name in enumerate(("anna", "bert")):
            contributed(member, name, seed)
        coordinator.release(614)
        pull(coordinator, out, "--contributions")
        first = {p.name for p in (out / "trust" / "contributions").iterdir()}
        contributed(member, "cleo", 7)
        coordinator.release(614)
        address = FederationAddress.from_text(coordinator.desk.link())
        with Channel(address.host_port, ca=address.ca, log=address.log) as channel:
            seen = SeenHeads(tmp_path / "home")
            origin = WireOrigin(channel)
            Pull(origin, address.log, out, seen, lambda name, *_: fetched.append(name)).run(
                contributions=True
            )
    found = verify_folder(out)

    assert found.release.manifest.n == 2
    assert (out / "lora" / "wren-fed-r0002.safetensors").is_file()
    assert not [name for name in fetched if name.startswith(("lora/", "concepts/"))]
    assert not {Path(name).name for name in fetched if "trust/" in name} & first
    assert len([name for name in set(fetched) if "trust/contributions" in name]) == 1
