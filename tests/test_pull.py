"""Pulling a release: resumed anywhere, hashed as it arrives, from servers that cannot be trusted.

Goals R17 and R18 of reliability.md 6; threats T10 and T16 of security.md 2.
"""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orthofed.client import pull as pulling
from orthofed.client.channel import Channel
from orthofed.client.origin import WireOrigin
from orthofed.client.pull import PART, Pull
from orthofed.client.seen_heads import SeenHeads
from orthofed.client.verify import verify_folder
from orthofed.core.errors import InputError, OrthoFedError, Refused, Unreachable, VerificationFailed
from orthofed.core.release import CHUNK_BYTES
from orthofed.proto import wire

from .mirror import Mirror, SignedRelease, Twist, damaged, files

BIG = bytes(range(256)) * ((2 * CHUNK_BYTES + 5 * 2**20) // 256)


@pytest.fixture(scope="module")
def small() -> SignedRelease:
    return SignedRelease.of(files())


@pytest.fixture(scope="module")
def large() -> SignedRelease:
    """One file of three chunks, 37 MiB."""
    return SignedRelease.of({"checkpoint/big.txt": BIG, "info.json": b'{"v":1}'})


@pytest.fixture
def mirror(small: SignedRelease) -> Iterator[Mirror]:
    with Mirror(small) as running:
        yield running


def _pull(mirror: Mirror, out: Path, n: int = 0, *, patience_s: float = 0.0) -> None:
    address = mirror.address
    with Channel(
        address.host_port, ca=address.ca, log=address.log, patience_s=patience_s
    ) as channel:
        Pull(WireOrigin(channel), address.log, out, SeenHeads(out.parent / "home")).run(n)


def _part(out: Path) -> Path:
    """Return the large file's part: it is called by a hash."""
    parts = [path for path in (out / PART).iterdir() if len(path.name) == 64]
    return max(parts, key=lambda path: path.stat().st_size)


def test_a_pulled_folder_verifies_without_a_network(mirror: Mirror, tmp_path: Path) -> None:
    """Everything of the manifest is there under its name, and trust/, and nothing else."""
    _pull(mirror, tmp_path / "out")

    found = verify_folder(tmp_path / "out", log=mirror.release.log)

    assert found.release.manifest.n == 1
    assert found.num_bytes == sum(map(len, mirror.release.files.values()))
    assert not (tmp_path / "out" / PART).exists()
    for name, data in mirror.release.files.items():
        assert (tmp_path / "out" / name).read_bytes() == data


def test_a_second_pull_fetches_nothing(mirror: Mirror, tmp_path: Path) -> None:
    """The folder is whole: its files are hashed, not fetched."""
    _pull(mirror, tmp_path / "out")
    mirror.reads.clear()

    _pull(mirror, tmp_path / "out")

    assert mirror.reads == []
    verify_folder(tmp_path / "out")


def test_a_pull_repairs_a_file_that_was_damaged_later(mirror: Mirror, tmp_path: Path) -> None:
    """Only the damaged file is fetched again."""
    _pull(mirror, tmp_path / "out")
    (tmp_path / "out" / "card.md").write_bytes(b"# tinY\n")
    mirror.reads.clear()

    _pull(mirror, tmp_path / "out")

    assert {name for name, _, _ in mirror.reads} == {"card.md"}
    verify_folder(tmp_path / "out")


class _Killed(Exception):  # not an error: the test's own stop
    """The process ends here."""


def _kill_after(num_bytes: int) -> Callable[[str, int, int], None]:
    def on_bytes(_name: str, done: int, _total: int) -> None:
        if done >= num_bytes:
            raise _Killed

    return on_bytes


@pytest.mark.parametrize("at", [1, 1 << 20, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_a_pull_cut_at_any_byte_fetches_only_what_is_missing(
    at: int, large: SignedRelease, tmp_path: Path
) -> None:
    """Stopped after ``at`` bytes, then started anew: no byte that was written is asked for again.

    The part file is then cut to an odd length, as a kill inside a write leaves it.
    """
    out = tmp_path / "out"
    with Mirror(large) as mirror:
        address = mirror.address
        seen = SeenHeads(tmp_path / "home")
        with (
            Channel(address.host_port, ca=address.ca, log=address.log) as channel,
            pytest.raises(_Killed),
        ):
            Pull(WireOrigin(channel), address.log, out, seen, _kill_after(at)).run()
        part = _part(out)
        written = _written(part)
        os.truncate(part, part.stat().st_size - 7)
        kept = part.stat().st_size
        assert not (out / "checkpoint" / "big.bin").exists()
        mirror.reads.clear()

        _pull(mirror, out)

        again = [(o, o + num) for name, o, num in mirror.reads if name == "checkpoint/big.txt"]
        for start, stop in again:
            assert all(stop <= a or start >= min(b, kept) for a, b in written), (start, stop)
    verify_folder(out)


def _written(part: Path) -> list[tuple[int, int]]:
    """Return where bytes of each chunk lie, as the map beside a part says."""
    filled = memoryview(part.with_name(f"{part.name}.map").read_bytes()).cast("Q")
    starts = [index * CHUNK_BYTES for index in range(len(filled))]
    return [(start, start + num) for start, num in zip(starts, filled, strict=True)]


def test_a_pull_survives_sigkill_in_another_process(large: SignedRelease, tmp_path: Path) -> None:
    """SIGKILL while bytes arrive; the next process goes on and ends with the right bytes."""
    out = tmp_path / "out"
    with Mirror(large) as mirror:
        mirror.twist = lambda _, honest: time.sleep(0.02) or honest
        command = [sys.executable, "-P", "-c", "from orthofed.__main__ import main; main()"]
        command += ["pull", mirror.address.to_text(), "-o", str(out), "--home", str(tmp_path)]
        for _ in range(2):
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            before, patience_s = len(mirror.reads), time.monotonic() + 60
            while len(mirror.reads) < before + 8 and time.monotonic() < patience_s:
                time.sleep(0.01)
            child.send_signal(signal.SIGKILL)
            child.communicate()
            assert not (out / "checkpoint" / "big.bin").exists()
        seen = {offset for name, offset, _ in mirror.reads if name == "checkpoint/big.txt"}
        mirror.twist = lambda _, honest: honest

        _pull(mirror, out)

        again = [(name, offset) for name, offset, _ in mirror.reads]
        assert len(again) <= len(set(again)) + 2 * 4, "at most the reads in flight are repeated"
        assert len(seen) > 8
    verify_folder(out)


def test_a_damaged_chunk_is_fetched_again_alone(large: SignedRelease, tmp_path: Path) -> None:
    """One wrong answer in the second chunk: that chunk comes twice, the others once."""
    wrong = [CHUNK_BYTES + (1 << 20)]

    def twist(request: wire.ReadRequest, honest: wire.ReadReply) -> wire.ReadReply:
        if request.offset in wrong:
            wrong.remove(request.offset)
            return damaged(honest)
        return honest

    with Mirror(large) as mirror:
        mirror.twist = twist
        _pull(mirror, tmp_path / "out")
        offsets = [offset for name, offset, _ in mirror.reads if name == "checkpoint/big.txt"]

    twice = {offset for offset in offsets if offsets.count(offset) == 2}
    assert twice == set(range(CHUNK_BYTES, 2 * CHUNK_BYTES, 1 << 20))
    verify_folder(tmp_path / "out")


def test_a_part_file_that_rotted_is_not_believed(large: SignedRelease, tmp_path: Path) -> None:
    """A flipped byte in what a killed pull left: that chunk is fetched anew, nothing else."""
    out = tmp_path / "out"
    with Mirror(large) as mirror:
        address = mirror.address
        seen = SeenHeads(tmp_path / "home")
        with (
            Channel(address.host_port, ca=address.ca, log=address.log) as channel,
            pytest.raises(_Killed),
        ):
            Pull(
                WireOrigin(channel), address.log, out, seen, _kill_after(CHUNK_BYTES + (3 << 20))
            ).run()
        part = _part(out)
        with part.open("r+b") as file:
            file.seek(1000)
            file.write(b"\xff\xff")
        mirror.reads.clear()

        _pull(mirror, out)

    verify_folder(out)


TWISTS: dict[str, Twist] = {
    "wrong bytes": lambda _, honest: damaged(honest),
    "too short": lambda _, honest: replace(honest, data=honest.data[:-1]),
    "too long": lambda _, honest: replace(honest, data=honest.data + b"x"),
    "nothing": lambda _, honest: replace(honest, data=b""),
    "another size": lambda _, honest: replace(honest, total_bytes=honest.total_bytes + 1),
    "endless": lambda _, honest: replace(honest, total_bytes=2**63),
}


@pytest.mark.parametrize("twist", TWISTS.values(), ids=list(TWISTS))
def test_no_wrong_byte_gets_a_final_name(twist: Twist, mirror: Mirror, tmp_path: Path) -> None:
    """T16: a server that lies about bytes or sizes is named, and leaves no file behind."""
    mirror.twist = twist

    with pytest.raises(VerificationFailed, match="of release 1"):
        _pull(mirror, tmp_path / "out")

    assert [path.name for path in (tmp_path / "out").iterdir()] == [PART]


def test_a_release_of_another_log_is_refused(
    small: SignedRelease, mirror: Mirror, tmp_path: Path
) -> None:
    """The link pins the log: a server with keys of its own gets nothing written."""
    mirror.release = replace(small, log="00" * 32)

    with pytest.raises(VerificationFailed, match="check failed: log id"):
        _pull(mirror, tmp_path / "out")


@pytest.mark.parametrize(
    "name",
    ["manifest", "spec.json", "keyring/1.json", "checkpoint", "head.json", "tile/entries/000.p/3"],
)
def test_every_flipped_byte_of_the_proof_is_refused(
    name: str, small: SignedRelease, mirror: Mirror, tmp_path: Path
) -> None:
    """Manifest and public files: a flip at 12 places of each; nothing of it is remembered."""
    data = small.reply.document if name == "manifest" else small.public[name]
    for place in range(0, len(data), max(1, len(data) // 12)):
        forged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        if name == "manifest":
            mirror.release = replace(small, reply=replace(small.reply, document=forged))
        else:
            mirror.release = replace(small, public={**small.public, name: forged})

        with pytest.raises(VerificationFailed, match="check failed"):
            _pull(mirror, tmp_path / str(place) / "out")

        assert not (tmp_path / str(place) / "out" / "card.md").exists()
        remembered = SeenHeads(tmp_path / str(place) / "home").of(small.log)
        assert (remembered is None) == (name != "manifest")


@pytest.mark.parametrize(
    "name", ["trust/log", "manifest.json", "trust/keyring/1.json", "trust", "manifest.json/x"]
)
def test_a_release_cannot_write_its_own_proof(name: str, tmp_path: Path) -> None:
    """A signed manifest that lists the reader's own files is refused before a byte comes."""
    with Mirror(SignedRelease.of({name: b"x" * 65})) as mirror:
        with pytest.raises(VerificationFailed, match="only its reader may write"):
            _pull(mirror, tmp_path / "out")

        assert mirror.reads == []


def test_a_head_that_names_another_manifest_than_the_ledger_is_refused(tmp_path: Path) -> None:
    """T10: signed by the ledger's key, and the release's leaf says otherwise: no file comes."""
    with Mirror(SignedRelease.of(files(), head="ab" * 32)) as mirror:
        with pytest.raises(VerificationFailed, match="names another manifest than the ledger"):
            _pull(mirror, tmp_path / "out")
        assert mirror.reads == []


def test_a_symbolic_link_in_the_way_is_not_followed(mirror: Mirror, tmp_path: Path) -> None:
    """T10: somebody put a link where a folder of the release belongs."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / PART).mkdir(parents=True)
    (tmp_path / "out" / PART / "log").write_text(mirror.release.log + "\n")
    (tmp_path / "out" / "lora").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(VerificationFailed, match="symbolic link"):
        _pull(mirror, tmp_path / "out")

    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_file_with_a_header_that_no_loader_should_see_is_refused(tmp_path: Path) -> None:
    """T8: signed, hashed, and still refused, since our strict reader does not take it."""
    with (
        Mirror(SignedRelease.of({"lora/x.safetensors": b"\xff" * 64})) as mirror,
        pytest.raises(VerificationFailed, match="check failed: header"),
    ):
        _pull(mirror, tmp_path / "out")

    assert not (tmp_path / "out" / "lora" / "x.safetensors").exists()


def test_a_folder_with_other_files_is_left_alone(mirror: Mirror, tmp_path: Path) -> None:
    """Nothing is mixed into, or overwritten in, a folder that no pull began."""
    (tmp_path / "thesis.txt").write_text("mine")

    with pytest.raises(InputError, match="no pull of this federation") as caught:
        _pull(mirror, tmp_path)

    assert caught.value.code == "folder-taken"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("what", ["a file", "a link to a folder"])
def test_what_is_no_folder_is_left_alone(what: str, mirror: Mirror, tmp_path: Path) -> None:
    """T10: a link would put the release somewhere else."""
    (tmp_path / "elsewhere").mkdir()
    if what == "a file":
        (tmp_path / "out").write_text("mine")
    else:
        (tmp_path / "out").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(InputError, match="is not a folder") as caught:
        _pull(mirror, tmp_path / "out")

    assert caught.value.code == "folder-taken"
    assert not any((tmp_path / "elsewhere").iterdir())


def test_a_folder_stays_as_it_is_where_the_wanted_release_is_not(
    mirror: Mirror, tmp_path: Path
) -> None:
    """Release 1 lies there, release 2 is in no ledger: refused, and the folder still verifies."""
    _pull(mirror, tmp_path / "out")

    with pytest.raises(Refused, match="there is no release 2"):
        _pull(mirror, tmp_path / "out", 2)

    verify_folder(tmp_path / "out")


def test_too_little_room_is_said_before_a_byte_comes(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes needed and bytes free; nothing is fetched."""
    usage = pulling.shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(pulling.shutil, "disk_usage", lambda _path: usage)

    with pytest.raises(OrthoFedError, match=r"\d+ bytes needed for .*, 100 free") as caught:
        _pull(mirror, tmp_path / "out")

    assert caught.value.code == "disk-full"
    assert mirror.reads == []


def test_a_disk_that_fills_up_loses_nothing(large: SignedRelease, tmp_path: Path) -> None:
    """The write fails after 20 MiB; with room again the pull goes on behind them."""
    out = tmp_path / "out"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Mirror(large) as mirror:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20 << 20, hard))
        try:
            with pytest.raises(OrthoFedError, match="bytes needed") as caught:
                _pull(mirror, out)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert caught.value.code == "disk-full"
        written = _written(_part(out))
        mirror.reads.clear()

        _pull(mirror, out)

        again = {o for name, o, _ in mirror.reads if name == "checkpoint/big.txt"}
        assert not again & {o for start, stop in written for o in range(start, stop, 1 << 20)}
        assert sum(stop - start for start, stop in written) >= 1 << 20
    verify_folder(out)


def test_a_server_that_is_down_for_a_moment_is_asked_again(mirror: Mirror, tmp_path: Path) -> None:
    """UNAVAILABLE is tried again within the patience; without patience it is named."""
    mirror.down = True
    with pytest.raises(Unreachable, match="gave no answer") as caught:
        _pull(mirror, tmp_path / "out", patience_s=0.3)
    assert "goes on where it stopped" in caught.value.fix

    mirror.down = False
    _pull(mirror, tmp_path / "out")

    verify_folder(tmp_path / "out")


def test_a_certificate_that_was_not_pinned_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    """T24: the system's roots do not know the mirror's certificate; no byte is read."""
    address = replace(mirror.address, ca=b"")

    with (
        Channel(address.host_port, ca=b"", log=address.log, patience_s=5) as channel,
        pytest.raises(VerificationFailed, match="certificate") as caught,
    ):
        Pull(WireOrigin(channel), address.log, tmp_path / "out", SeenHeads(tmp_path / "home")).run()

    assert caught.value.code == "tls-untrusted"
