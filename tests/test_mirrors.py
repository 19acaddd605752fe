"""Pulling from web servers that nobody has to trust, and the folder that a coordinator gives them.

Goals R17 and R18 of reliability.md 6; threats T6, T10, T16, T18 and T24 of security.md 2.
"""

import itertools
import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from orthofed.client import http_watch
from orthofed.client.http_origin import HttpOrigin
from orthofed.client.pull import PART, Pull
from orthofed.client.seen_heads import SeenHeads
from orthofed.client.verify import verify_folder
from orthofed.core.errors import InputError, OrthoFedError, Refused, Unreachable, VerificationFailed
from orthofed.core.release import CHUNK_BYTES
from orthofed.core.tree_address import TreeAddress

from . import certificates
from .coordinator_process import run
from .member import Leased, Member
from .mirror import SignedRelease, files
from .serving import founded, running
from .web import Web

BIG = bytes(range(256)) * ((3 * CHUNK_BYTES + 5 * 2**20) // 256)


def tree(folder: Path, release: SignedRelease) -> Path:
    """Write the static tree of one release."""
    for name, data in {
        **release.public,
        "releases/1/manifest.json": release.reply.document,
        **{f"releases/1/{name}": data for name, data in release.files.items()},
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def small() -> SignedRelease:
    return SignedRelease.of(files())


@pytest.fixture(scope="module")
def large() -> SignedRelease:
    """One file of four chunks, 53 MiB."""
    return SignedRelease.of({"checkpoint/big.txt": BIG, "info.json": b'{"v":1}'})


def pull(web: Web, log: str, out: Path, *mirrors: Web, patience_s: float = 0) -> None:
    ca = web.tls.der if web.tls else b""
    origin = HttpOrigin(TreeAddress(web.url, log, ca), patience_s=patience_s)
    others = [HttpOrigin(TreeAddress(m.url, ""), patience_s=0, mirror=True) for m in mirrors]
    with ExitStack() as stack:
        for each in (origin, *others):
            stack.enter_context(each)
        seen = SeenHeads(out.parent / "home")
        Pull(origin, log, out, seen, mirrors=tuple(others)).run()


def test_a_plain_web_server_is_enough(small: SignedRelease, tmp_path: Path) -> None:
    """The tree behind TLS with a CA of its own: pulled, verified, every byte the same."""
    authority = certificates.authority()
    with Web(tree(tmp_path / "www", small), tls=certificates.server(authority)) as web:
        web.tls = authority  # what its readers pin
        pull(web, small.log, tmp_path / "out")

    assert verify_folder(tmp_path / "out", log=small.log).release.manifest.n == 1
    for name, data in small.files.items():
        assert (tmp_path / "out" / name).read_bytes() == data


def test_a_certificate_of_somebody_else_is_refused(small: SignedRelease, tmp_path: Path) -> None:
    """T24: another CA than the pinned one; nothing is fetched."""
    shown = certificates.server(certificates.authority())
    with Web(tree(tmp_path / "www", small), tls=shown) as web:
        web.tls = certificates.authority("other")
        with pytest.raises(VerificationFailed) as caught:
            pull(web, small.log, tmp_path / "out")

    assert caught.value.code == "tls-untrusted"
    assert web.ranges == []


LIES = {
    "wrong": (VerificationFailed, "chunk 0 was wrong"),
    "gzip": (VerificationFailed, "is encoded as"),  # T6
    "endless": (VerificationFailed, "more than"),  # T16
    "elsewhere": (Refused, "redirects to 'http://localhost"),
    "cut": (Unreachable, "broke off"),
    "error": (Unreachable, "HTTP 503"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_lies_about_files_leaves_none(
    lie: str, small: SignedRelease, tmp_path: Path
) -> None:
    """T16: the ledger is shown rightly, files are not; no wrong byte gets a name."""
    error, says = LIES[lie]
    with Web(tree(tmp_path / "www", small)) as web:
        web.lie = lambda name, *_: lie if "lora" in name else ""

        with pytest.raises(error, match=says):
            pull(web, small.log, tmp_path / "out")

    assert not (tmp_path / "out" / "lora").exists()
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("lie", ["gzip", "endless", "elsewhere", "cut", "error", "wrong"])
def test_a_server_that_lies_about_the_ledger_is_refused(
    lie: str, small: SignedRelease, tmp_path: Path
) -> None:
    """T16, T17: the head comes wrongly, in each of the ways."""
    with Web(tree(tmp_path / "www", small)) as web:
        web.lie = lambda name, *_: lie if name == "head.json" else ""

        with pytest.raises(OrthoFedError):
            pull(web, small.log, tmp_path / "out")

    assert {path.name for path in (tmp_path / "out").iterdir()} == {PART}


def test_another_stretch_than_was_asked_for_is_refused(
    large: SignedRelease, tmp_path: Path
) -> None:
    """T16: a 206 of other bytes; a file of several chunks, so that ranges are asked for."""
    with Web(tree(tmp_path / "www", large)) as web:
        web.lie = lambda name, *_: "shifted" if "big" in name else ""

        with pytest.raises(VerificationFailed, match="were asked for"):
            pull(web, large.log, tmp_path / "out")


def test_who_drips_is_hung_up_on(
    small: SignedRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T18: twenty bytes a second, for ever below the floor."""
    monkeypatch.setattr(http_watch, "WATCHED_S", 0.5)
    with Web(tree(tmp_path / "www", small)) as web:
        web.lie = lambda name, *_: "drip" if "lora" in name else ""

        with pytest.raises(Unreachable, match="bytes in"):
            pull(web, small.log, tmp_path / "out")


def test_a_server_without_ranges_is_read_from_its_start(
    large: SignedRelease, tmp_path: Path
) -> None:
    """200 to a Range: what was not asked for is dropped, never appended."""
    with Web(tree(tmp_path / "www", large)) as web:
        web.lie = lambda *_: "whole"
        pull(web, large.log, tmp_path / "out")

    assert (tmp_path / "out" / "checkpoint" / "big.txt").read_bytes() == BIG


def test_a_line_that_is_cut_again_and_again_loses_nothing(
    large: SignedRelease, tmp_path: Path
) -> None:
    """Every answer but a third of it is cut: it goes on at the byte where it stopped."""
    with Web(tree(tmp_path / "www", large)) as web:
        web.lie = lambda name, start, end: "cut" if "big" in name and end - start > 1e6 else ""
        pull(web, large.log, tmp_path / "out", patience_s=20)
        starts = [start for name, start, _ in web.ranges if "big" in name]

    assert (tmp_path / "out" / "checkpoint" / "big.txt").read_bytes() == BIG
    assert len(starts) > 8
    assert len(set(starts)) == len(starts), "no stretch was asked for twice"


def test_damaged_old_and_dead_mirrors_cost_no_byte(large: SignedRelease, tmp_path: Path) -> None:
    """R17: one mirror gives wrong bytes, one has nothing, one is down; the origin has the rest."""
    folder = tree(tmp_path / "www", large)
    (tmp_path / "empty").mkdir()
    with Web(folder) as web, Web(folder) as damaged, Web(tmp_path / "empty") as old:
        with Web(folder) as dead:
            pass
        damaged.lie = lambda *_: "wrong"
        pull(web, large.log, tmp_path / "out", damaged, old, dead)

    verify_folder(tmp_path / "out", log=large.log)
    assert any("big" in name for name, *_ in damaged.ranges)


def test_files_come_from_the_mirror(large: SignedRelease, tmp_path: Path) -> None:
    """A good mirror has the files; the origin is asked for the ledger alone."""
    folder = tree(tmp_path / "www", large)
    with Web(folder) as web, Web(folder) as mirror:
        pull(web, large.log, tmp_path / "out", mirror)

    assert not any("big" in name for name, *_ in web.ranges)
    assert {Path(name).name for name, *_ in mirror.ranges} == {"big.txt", "info.json"}


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("https://example.org/fed", "no-pin"),
        ("https://example.org/fed#", "no-pin"),
        ("https://example.org/fed#abc", "no-pin"),
        ("http://example.org/fed#" + "a" * 64, "plain-http"),  # T24
        ("https://example.org/fed#" + "a" * 64 + "?ca=A", "bad-link"),
        ("https://user@example.org/fed#" + "a" * 64, "bad-link"),
        ("https://example.org:99999/#" + "a" * 64, "bad-link"),
        ("https://example.org/x y#" + "a" * 64, "bad-link"),
        ("https://example.org/" + "x" * (16 << 10) + "#" + "a" * 64, "bad-link"),
    ],
)
def test_an_address_that_pins_nothing_is_refused(address: str, code: str) -> None:
    """Without a log id a web server could show any federation."""
    with pytest.raises(InputError) as caught:
        TreeAddress.from_text(address)

    assert caught.value.code == code


def names(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def contributed(member: Member, name: str) -> Leased:
    lease = member.lease(name, (f"{name}-k7",))
    member.contribute(member.pack(lease))
    return lease


def test_a_published_folder_is_pulled_rebuilt_and_loses_what_was_withdrawn(tmp_path: Path) -> None:
    """Publish, pull by HTTP with what it is made of, rebuild; withdraw, release, publish again.

    Both sent the same bytes, so that the coordinator keeps the blob: the withdrawn leaf goes.
    """
    folder, www = founded(tmp_path), tmp_path / "www"
    with running(folder) as coordinator:
        member = coordinator.member()
        leases = [contributed(member, name) for name in ("anna", "bert")]
        leaves = [member.check(member.status(lease).receipt).index for lease in leases]
        coordinator.release()
        publish = ("coordinator", "publish", str(folder.root), str(www), "--json")
        told, again = (json.loads(run(*publish).stdout) for _ in range(2))
        with Web(www) as web:
            words = ("pull", f"{web.url}#{told['log']}", "--home", str(tmp_path / "home"))
            first = ("-o", str(tmp_path / "one"), "--contributions", "--json")
            cost, spared = (json.loads(run(*words, *first).stdout) for _ in range(2))
            place = (f"{web.url}#{told['log']}", "--home", str(tmp_path / "home"))
            shown = json.loads(run("ledger", "show", *place, "--json").stdout)
            lora = str(next((tmp_path / "one" / "lora").glob("*[0-9].safetensors")))
            audited = json.loads(run("audit", lora, "--release", *place, "--json").stdout)
            base = str(coordinator.house.settings.base)
            rebuilt = run("verify", str(tmp_path / "one"), "--rebuild", "--base", base).stdout
            member.withdraw(leases[0], leaves[0])
            coordinator.release()
            run(*publish)
            run(*words, "-o", str(tmp_path / "two"))

    assert told["written"] == told["files"]
    assert cost["saved_bytes"] > 0, "the LoRA files are made of the contributions"
    assert spared["fetched_bytes"] == 0
    assert spared["saved_bytes"] == cost["fetched_bytes"] + cost["saved_bytes"]
    assert audited["schema"].startswith("orthofed.audit")
    assert len(shown["leaves"]) == shown["size"] == told["size"]
    assert (again["written"], again["removed"]) == (0, 0)
    assert "every byte follows from 2 contributions" in rebuilt
    assert not (www / f"contributions/{leaves[0]}.safetensors").exists()
    assert (www / f"contributions/{leaves[1]}.safetensors").is_file()
    assert verify_folder(tmp_path / "two").release.manifest.n == 2


class _Killed(Exception):  # not an error: the test's own stop
    """The process ends here."""


def test_a_publish_killed_at_any_file_shows_the_old_state_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before the k-th rename, a reader pulls an older release or the new one, whole."""
    from orthofed.coordinator.fs import Fs  # noqa: PLC0415  # the break is made in it
    from orthofed.coordinator.published_tree import PublishedTree  # noqa: PLC0415

    folder, www = founded(tmp_path), tmp_path / "www"
    with running(folder) as coordinator:
        member = coordinator.member()
        contributed(member, "anna")
        coordinator.release()
        log = PublishedTree(folder, www, fs=Fs()).write().log
        contributed(member, "bert")
        coordinator.release()
        honest, seen, k = Fs.rename, set[int](), 0
        for k in itertools.count():
            left = [k]

            def rename(fs: Fs, source: Path, target: Path, left: list[int] = left) -> None:
                if www in target.parents and not left[0]:
                    raise _Killed
                left[0] -= www in target.parents
                honest(fs, source, target)

            monkeypatch.setattr(Fs, "rename", rename)
            try:
                PublishedTree(folder, www, fs=Fs()).write()
                break
            except _Killed:
                monkeypatch.setattr(Fs, "rename", honest)
            with Web(www) as web:
                pull(web, log, tmp_path / f"out-{k}")
            seen.add(verify_folder(tmp_path / f"out-{k}").release.manifest.n)

    assert seen == {1}
    assert k > 5


def test_a_second_publish_into_one_folder_is_told_to_wait(tmp_path: Path) -> None:
    """Both used the same temporary names: one ended with the system's own words, `File exists`."""
    from orthofed.coordinator.fs import Fs  # noqa: PLC0415
    from orthofed.coordinator.published_tree import PublishedTree  # noqa: PLC0415

    folder, www = founded(tmp_path), tmp_path / "www"

    class Meanwhile(Fs):
        said = ""

        def link_unsynced(self, source: Path, target: Path) -> None:
            super().link_unsynced(source, target)
            if not self.said:
                with pytest.raises(Refused) as refused:
                    PublishedTree(folder, www, fs=Fs()).write()
                self.said = refused.value.code

    with running(folder):
        fs = Meanwhile()
        PublishedTree(folder, www, fs=fs).write()
        again = PublishedTree(folder, www, fs=Fs()).write()

    assert fs.said == "folder-in-use"
    assert again.written == 0


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    """Publishing removes what is published no more, so never in a folder of somebody's own."""
    folder = founded(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with running(folder):
        done = run("coordinator", "publish", str(folder.root), str(tmp_path / "mine"), check=False)

    assert done.returncode == 2
    assert names(tmp_path / "mine") == {"thesis.txt": b"mine"}


def test_somebodys_files_in_folders_with_our_names_are_left_alone(tmp_path: Path) -> None:
    """`checkpoints` and `releases` are names of others, too; only our head says it is our tree."""
    folder, theirs, www = founded(tmp_path), tmp_path / "ckpt", tmp_path / "www"
    model = theirs / "checkpoints" / "sd15.safetensors"
    model.parent.mkdir(parents=True)
    model.write_text("model")
    with running(folder):
        done = run("coordinator", "publish", str(folder.root), str(theirs), check=False)
        run("coordinator", "publish", str(folder.root), str(www))
        mine = [www / "releases" / "mine" / "thesis.txt", www / "tile" / "notes" / ".draft.tmp"]
        mine += [www / "checkpoints" / "sd15.safetensors", www / "index.html"]
        for path in mine:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("mine")
        old = [www / "contributions" / "7.safetensors", www / "tile" / "0" / ".000.tmp"]
        for path in old:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("published no more")
        told = run("coordinator", "publish", str(folder.root), str(www), "--json")

    assert (done.returncode, names(theirs)) == (2, {"checkpoints/sd15.safetensors": b"model"})
    assert "no head.json of this federation" in done.stderr
    assert [path.read_text() for path in mine] == ["mine"] * len(mine)
    assert json.loads(told.stdout)["removed"] == len(old)
    assert not any(path.exists() for path in old)


def test_the_mirror_of_another_federation_and_our_own_folder_are_refused(tmp_path: Path) -> None:
    """Nothing of either changes, and a release finds its folder even where a copy lost it."""
    one, two = (founded(tmp_path / name) for name in ("one", "two"))
    www = tmp_path / "www"
    with running(one):
        run("coordinator", "publish", str(one.root), str(www))
        before = names(www)
    two.releases.rmdir()
    with running(two) as coordinator:
        for out, words in ((www, "another federation"), (two.public, "coordinator's own folder")):
            done = run("coordinator", "publish", str(two.root), str(out), check=False)
            assert (done.returncode, words in done.stderr) == (2, True)
        contributed(coordinator.member(), "anna")
        coordinator.release()

    assert names(www) == before
