"""`orthofed pull --as` of what a release leaves out: made at home, held to the signed hashes."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orthofed.client import make_derived
from orthofed.client import pull as pulling
from orthofed.client.base_folder import BaseFolder
from orthofed.client.channel import Channel
from orthofed.client.origin import WireOrigin
from orthofed.client.pull import Pull
from orthofed.client.seen_heads import SeenHeads
from orthofed.client.verify import verify_folder
from orthofed.core.address import FederationAddress
from orthofed.core.errors import InputError, OrthoFedError, VerificationFailed
from orthofed.core.kinds import DERIVABLE

from .coordinator_process import COMMAND, run
from .serving import Running, founded, running
from .test_partial_pull import contributed, names
from .test_rebuild import flip
from .tiny_base import tiny_base

FULL = "full/wren-fed-r0001-full.safetensors"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two concepts; the release leaves out everything that consumers can make."""
    folder = founded(tmp_path_factory.mktemp("shared"), derive=tuple(DERIVABLE))
    with running(folder) as coordinator:
        for seed, name in enumerate(("anna", "bert")):
            contributed(coordinator.member(), name, seed)
        coordinator.release(614)
        yield coordinator


def base_of(coordinator: Running) -> Path:
    return coordinator.folder.settings().base


def command(coordinator: Running, out: Path, *words: str) -> tuple[str, ...]:
    home = ("--home", str(out.parent / "home"), "--patience", "10")
    return ("pull", coordinator.desk.link(), "-o", str(out), *words, *home)


def pull(coordinator: Running, out: Path, *words: str, check: bool = True) -> Any:
    return run(*command(coordinator, out, *words), check=check)


def pull_here(coordinator: Running, out: Path, kinds: list[str], **given: Any) -> None:
    """Pull in this process."""
    address = FederationAddress.from_text(coordinator.desk.link())
    with Channel(address.host_port, ca=address.ca, log=address.log) as channel:
        seen = SeenHeads(out.parent / "home")
        Pull(WireOrigin(channel), address.log, out, seen, **given).run(kinds=kinds)


def derived(folder: Path) -> dict[str, dict[str, Any]]:
    return {f["name"]: f for f in json.loads((folder / "info.json").read_bytes())["derived"]}


@pytest.fixture(scope="module")
def full(shared: Running, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that was pulled for the full file."""
    out = tmp_path_factory.mktemp("full") / "out"
    told = pull(shared, out, "--as", "full", "--base", str(base_of(shared))).stdout
    assert "and 1 made here" in told
    return out


def test_the_full_file_is_made_of_the_contributions_and_the_base(full: Path) -> None:
    """Beside it the vectors; `verify` holds it to info.json's hash without the base."""
    told = json.loads(run("verify", str(full), "--json").stdout)

    kept = {name for name in names(full) if not name.startswith("trust/")}
    vectors = {f"embeddings/{name}-k7.safetensors" for name in ("anna", "bert")}
    assert kept == {FULL, *vectors, "info.json", "card.md", "manifest.json"}
    assert (full / FULL).stat().st_size == derived(full)[FULL]["bytes"]
    assert (told["as"], told["made"]) == (["full"], 1)
    assert not (full / ".pull").exists()


CHANGES = {
    "removed": lambda folder: (folder / FULL).unlink(),
    "a byte flipped": lambda folder: flip(folder / FULL, -1),
    "another file beside it": lambda folder: shutil.copy(folder / FULL, folder / "full" / "x.bin"),
    "the checkpoint's place taken": lambda folder: (folder / "checkpoint").write_text("x"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_what_was_made_is_held_to_the_choice(change: Any, full: Path, tmp_path: Path) -> None:
    """T16: exit code 4."""
    shutil.copytree(full, tmp_path / "out")
    change(tmp_path / "out")

    assert run("verify", str(tmp_path / "out"), check=False).returncode == 4


def test_without_the_base_its_fingerprint_is_asked_for(shared: Running, tmp_path: Path) -> None:
    """Exit code 2, nothing fetched but info.json; another base is refused likewise."""
    done = pull(shared, tmp_path / "out", "--as", "full", check=False)
    other = tiny_base(tmp_path / "other")
    (other / "unet" / "config.json").write_text("{}")
    wrong = pull(shared, tmp_path / "out", "--as", "full", "--base", str(other), check=False)

    assert (done.returncode, wrong.returncode) == (2, 2)
    assert shared.house.facts.spec.base.fingerprint in done.stderr
    assert "--base" in done.stderr
    assert "has fingerprint" in wrong.stderr
    assert names(tmp_path / "out") <= {"info.json", ".pull/log", ".pull/manifest.json"}


@pytest.mark.parametrize("kind", ["checkpoint", "diffusers", "peft", "a1111"])
def test_every_kind_is_made_with_the_signed_hashes(
    kind: str, shared: Running, tmp_path: Path
) -> None:
    """The LoRA's spellings need no base; a second pull makes and fetches nothing."""
    base = ("--base", str(base_of(shared))) if kind == "checkpoint" else ()
    pull(shared, tmp_path / "out", "--as", kind, *base)

    made = {name for name, file in derived(tmp_path / "out").items() if file["kind"] == kind}
    assert made
    assert made <= names(tmp_path / "out")
    assert verify_folder(tmp_path / "out").num_made == len(made)
    again = pull(shared, tmp_path / "out", "--as", kind)
    assert f"and {len(made)} made here" in again.stdout


def test_the_next_release_takes_the_place_of_what_was_made(tmp_path: Path) -> None:
    """The full file's name has the release in it: the old one goes, the new one is made."""
    (tmp_path / "two").mkdir()
    with running(founded(tmp_path / "two")) as coordinator:
        contributed(coordinator.member(), "anna", 0)
        coordinator.release(614)
        base = ("--as", "full", "--base", str(base_of(coordinator)))
        pull(coordinator, tmp_path / "out", *base)
        contributed(coordinator.member(), "bert", 1)
        coordinator.release(614)

        pull(coordinator, tmp_path / "out", *base)

        assert [p.name for p in (tmp_path / "out" / "full").iterdir()] == [
            "wren-fed-r0002-full.safetensors"
        ]
        assert verify_folder(tmp_path / "out").num_made == 1
        pull(coordinator, tmp_path / "out")
        assert not (tmp_path / "out" / "full").exists()
        assert verify_folder(tmp_path / "out").num_made == 0


def test_a_file_that_comes_out_otherwise_has_no_place(
    shared: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T25: info.json is signed over another hash than the contributions give."""
    honest = make_derived.open_shares

    def stronger(contributions: Any, shares: Any) -> Any:
        return honest(contributions, [(leaf, share + 1) for leaf, share in shares])

    monkeypatch.setattr(make_derived, "open_shares", stronger)
    base = BaseFolder(base_of(shared))

    with pytest.raises(VerificationFailed) as caught:
        pull_here(shared, tmp_path / "out", ["full"], base=base)

    assert "info.json says" in caught.value.what
    assert not (tmp_path / "out" / "full").exists()


@pytest.mark.parametrize("place", ["write_file", "appear"])
def test_a_cut_while_it_is_made_leaves_nothing_half(
    place: str, shared: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut in the middle of its data, or whole and not yet renamed; then to the end."""
    out, base = tmp_path / "out", BaseFolder(base_of(shared))

    def cut(*given: Any) -> None:
        if place == "write_file":
            made, file = given
            (made / "full").mkdir(parents=True)
            (made / file.name).write_bytes(next(iter(file.data)))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(make_derived, place, cut)
        with pytest.raises(KeyboardInterrupt):
            pull_here(shared, out, ["full"], base=base)
    assert not (out / "full").exists()
    with pytest.raises(VerificationFailed):
        verify_folder(out)

    pull_here(shared, out, ["full"], base=base)
    assert verify_folder(out).num_made == 1
    assert not (out / ".pull").exists()


def test_a_kill_at_any_moment_leaves_nothing_half(shared: Running, tmp_path: Path) -> None:
    """SIGKILL at three moments of one folder's pull; what has its name is whole."""
    out, more = tmp_path / "out", ("--as", "full", "--base", str(base_of(shared)))
    began_s = time.monotonic()
    pull(shared, tmp_path / "whole", *more)
    took_s = time.monotonic() - began_s

    for part in (0.6, 0.75, 0.9):
        process = subprocess.Popen(
            [*COMMAND, *command(shared, out, *more)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(took_s * part)
        process.send_signal(signal.SIGKILL)
        process.wait()
        whole = derived(tmp_path / "whole")[FULL]["bytes"]
        assert not (out / FULL).exists() or (out / FULL).stat().st_size == whole

    pull(shared, out, *more)
    assert verify_folder(out).num_made == 1


def test_the_disk_is_asked_before_anything_is_made(
    shared: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for the files that come, and not for the full file: refused, nothing fetched."""
    free = 2 << 20  # the reserve, the LoRA files and the blobs fit
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(pulling.shutil, "disk_usage", lambda _path: usage)

    base = BaseFolder(base_of(shared))

    with pytest.raises(OrthoFedError) as caught:
        pull_here(shared, tmp_path / "out", ["full", "checkpoint"], base=base)

    assert caught.value.code == "disk-full"
    assert not (tmp_path / "out" / "trust").exists()


def test_a_composed_full_file_is_derived_again_with_the_base(
    shared: Running, full: Path, tmp_path: Path
) -> None:
    """One concept: no signed hash, so `verify` needs the base; all at the weights: the bytes."""
    base = ("--base", str(base_of(shared)))
    one, both = tmp_path / "one", tmp_path / "both"
    pull(shared, one, "--concept", "anna", "--as", "full", *base)
    pull(shared, both, "--concept", "bert", "--concept", "anna", "--as", "full", *base)
    (mixed,) = (one / "full").iterdir()

    assert mixed.name.startswith("wren-fed-r0001-mix-")
    assert not (one / "lora").exists()
    assert (both / FULL).read_bytes() == (full / FULL).read_bytes()
    without = run("verify", str(one), check=False)
    assert without.returncode == 2
    assert shared.house.facts.spec.base.fingerprint in without.stderr
    assert run("verify", str(one), *base).returncode == 0
    flip(mixed, -1)
    assert run("verify", str(one), *base, check=False).returncode == 4


@pytest.mark.parametrize("said", ['["onnx"]', '["peft","full"]', "[]", '["full","full"]'])
def test_a_record_of_programs_that_there_are_not_is_refused(
    said: str, shared: Running, tmp_path: Path
) -> None:
    """Unknown, unsorted, empty, twice: exit code 4."""
    out = tmp_path / "out"
    pull(shared, out, "--concept", "anna", "--as", "peft")
    path = out / "composition.json"
    path.write_bytes(path.read_bytes().replace(b'["peft"]', said.encode()))

    assert run("verify", str(out), check=False).returncode == 4


def test_a_program_that_nobody_knows_is_refused_at_once(shared: Running, tmp_path: Path) -> None:
    """Exit code 2 and the known ones, composed or not."""
    for more in ((), ("--concept", "anna")):
        done = pull(shared, tmp_path / "out", "--as", "onnx", *more, check=False)
        assert done.returncode == 2
        assert "kohya" in done.stderr
    with pytest.raises(InputError):
        pull_here(shared, tmp_path / "here", ["onnx"])
