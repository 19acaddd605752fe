"""The real process, killed with SIGKILL: what was acknowledged is there, and no hand is needed."""

import json
import re
import shutil
import signal
import subprocess
import time

import pytest

from orthofed.core.document import parse
from orthofed.core.errors import OrthoFedError
from orthofed.core.release import ReleaseManifest
from orthofed.proto import methods, wire

from .member import Member
from .running import COMMAND, Coordinator
from .tiny_base import tiny_base


@pytest.fixture(scope="module")
def founded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("founded")
    Coordinator.found(folder / "fed", tiny_base(folder / "base"), "--rank", "4")
    return folder / "fed"


@pytest.fixture
def coordinator(founded, tmp_path):
    """Serve a copy of one founded folder from a process of its own."""
    with Coordinator(shutil.copytree(founded, tmp_path / "fed")) as running:
        yield running


def test_an_acknowledged_upload_survives_kill_minus_nine(coordinator):
    """Receipt, SIGKILL, start: the same receipt again, and the release holds the contribution."""
    member = Member.joined(coordinator.invite(uses=5))
    packed = member.pack(member.lease())
    receipt = member.contribute(packed)

    coordinator.kill()
    coordinator.start()
    again = eventually(lambda: member.commit(packed).receipt)
    made = coordinator.release("--lambda", "0.6")
    reply = member.link.call(methods.GET_MANIFEST, wire.ManifestRequest(0), wire.ManifestReply)

    assert again == receipt
    leaf = member.check(receipt)
    manifest = ReleaseManifest.from_document(parse(reply.document, kind="release"))
    assert manifest.contributions == ((leaf.index, 614),)
    assert made["concepts"] == 1


def test_a_kill_between_chunks_costs_the_chunks_and_nothing_else(coordinator):
    """Begun and half sent, SIGKILL: lease, name and upload stand; the client just goes on."""
    member = Member.joined(coordinator.invite())
    lease = member.lease()
    packed = member.pack(lease)
    member.begin(packed)

    coordinator.kill()
    coordinator.start()

    assert eventually(lambda: member.status(lease)).state == "leased"
    assert member.check(member.contribute(packed)).leaf["kind"] == "contribution"


@pytest.mark.parametrize("moment", ["planned", "building", "built"])
def test_an_interrupted_release_is_finished_by_the_next_start(coordinator, moment):
    """Killed after the plan, while building, or before the leaf: a start repairs by itself."""
    member = Member.joined(coordinator.invite())
    member.contribute(member.pack(member.lease()))
    coordinator.stop()
    leave_open_plan(coordinator, moment)

    coordinator.start()
    found = eventually(lambda: newest(member), until=bool)

    assert found == 1
    folder = coordinator.folder / "public" / "releases"
    assert sorted(path.name for path in folder.iterdir()) == ["1"]
    assert coordinator.release()["new"] is False


def leave_open_plan(coordinator: Coordinator, moment: str) -> None:
    """Open the folder as ``release`` does and stop at a moment, as a kill would."""
    publish = "build" if moment == "built" else "nothing"
    code = f"""
import sys
from pathlib import Path
from orthofed.coordinator import releasing
from orthofed.coordinator.command_line import desk_of
real = releasing.build
def stop(folder, *args, **kwargs):
    if {moment!r} == "building":
        (folder.releases / ".1.tmp" / "lora").mkdir(parents=True)
    if {publish!r} == "build":
        real(folder, *args, **kwargs)
    import os
    os._exit(9)
releasing.build = stop
with desk_of(Path(sys.argv[1])) as (folder, desk):
    releasing.publish_newest(folder, desk, lambda_1024=None, resume=False, say=print)
"""
    done = subprocess.run([*COMMAND[:-1], code, str(coordinator.folder)], check=False)
    assert done.returncode == 9


def newest(member: Member) -> int:
    return member.link.call(methods.LIST_RELEASES, wire.ListRequest(), wire.ListReply).newest


def eventually(ask, *, until=lambda _: True, patience_s: float = 90):
    """Ask again while the coordinator starts, until the answer is right."""
    end = time.monotonic() + patience_s
    while True:
        try:
            answer = ask()
            if until(answer) or time.monotonic() > end:
                return answer
        except OrthoFedError:
            if time.monotonic() > end:
                raise
        time.sleep(0.2)


def test_an_old_copy_of_the_database_is_not_started(coordinator, tmp_path):
    """T28: the folder's database put back to an older copy: refused, with the way out.

    Its sum tells that it is another one, and where that is taken away, the mark that it is old.
    """
    member = Member.joined(coordinator.invite())
    coordinator.stop()
    state = coordinator.folder / "data" / "state.db"
    shutil.copy(state, tmp_path / "old.db")
    coordinator.start()
    lease = eventually(member.lease)
    coordinator.stop()
    shutil.copy(tmp_path / "old.db", state)

    code = (
        "import sys; from pathlib import Path\n"
        "from orthofed.coordinator.command_line import desk_of\n"
        "from orthofed.core.errors import VerificationFailed\n"
        "try:\n    desk_of(Path(sys.argv[1])).__enter__()\n"
        "except VerificationFailed as error:\n    print(error.code)"
    )
    words = [*COMMAND[:-1], code, str(coordinator.folder)]
    told: list[str] = []
    for _ in range(2):
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        told.append(done.stdout.strip())
        state.with_name("state.sum").unlink(missing_ok=True)

    assert lease.fence == 1
    assert told == ["database-changed", "database-behind"]


def test_sigterm_ends_it_cleanly_and_commands_work_either_way(coordinator):
    """Exit code 0; status, invite and link answer beside a running coordinator and without it."""
    running = coordinator_status(coordinator)

    code = coordinator.stop()
    alone = coordinator_status(coordinator)

    assert code == 0
    assert running["capacity"] == alone["capacity"] == 6
    assert coordinator.link().startswith("orthofed://127.0.0.1:")
    assert not (coordinator.folder / "data" / "control.sock").exists()


def coordinator_status(coordinator: Coordinator) -> dict:
    words = [*COMMAND, "status", str(coordinator.folder), "--json"]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def test_a_closed_terminal_drains_and_a_damaged_note_of_its_address_stops_no_start(coordinator):
    """SIGHUP ends it as SIGTERM does; with the bytes of a bad sector it began with a traceback."""
    data = coordinator.folder / "data"
    coordinator.stop()
    ours = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a run below nohup hands on its own
    try:
        coordinator.start()
    finally:
        signal.signal(signal.SIGHUP, ours)
    coordinator.process.send_signal(signal.SIGHUP)
    assert coordinator.process.wait(60) == 0
    assert (data / "state.sum").is_file()
    coordinator.stop()

    (data / "address").write_bytes(b"\xff\xfe")
    assert coordinator_status(coordinator)["capacity"] == 6
    coordinator.start()

    assert (data / "address").read_text() == coordinator.listen


def test_a_second_coordinator_on_one_folder_is_refused(coordinator):
    """Two processes never own one folder, and the first is not disturbed."""
    words = [*COMMAND, "serve", str(coordinator.folder), "--listen", "127.0.0.1:0"]

    second = subprocess.run(words, check=False, capture_output=True, text=True)

    assert second.returncode != 0
    assert "is in use" in second.stderr
    assert coordinator_status(coordinator)["slots"]["free"] == 6


def test_serve_says_where_it_listens_and_where_it_is_reached(founded, tmp_path):
    """The socket's own port, and beside it the address that invites name."""
    folder = shutil.copytree(founded, tmp_path / "fed")
    settings = folder / "coordinator.toml"
    text = settings.read_text().replace('\naddress = ""', '\naddress = "fed.example.org:7443"')
    settings.write_text(text)
    words = [*COMMAND, "serve", str(folder), "--listen", "127.0.0.1:0"]

    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = [process.stdout.readline() for _ in range(2)]
        process.terminate()
        listening, reached, link = [*first, *process.stdout]

    assert re.fullmatch(r"listening on 127\.0\.0\.1:[1-9]\d+\n", listening)
    assert reached == "reached at fed.example.org:7443\n"
    assert link.startswith("orthofed://fed.example.org:7443/")


def test_a_release_says_how_many_contributions_wait(coordinator):
    """One approved, one in quarantine: the first is released, of the second the command is told."""
    settings = coordinator.folder / "coordinator.toml"
    coordinator.stop()
    text = settings.read_text().replace("approve_first = false", "approve_first = true")
    settings.write_text(text)
    coordinator.start()
    for name in ("anna", "rex"):
        member = Member.joined(coordinator.invite())
        member.contribute(member.pack(member.lease(name, (f"{name}-k7",))))
    words = [*COMMAND, "contributions", str(coordinator.folder), "--json"]
    found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    leaf = str(found["contributions"][0]["leaf"])
    subprocess.run([*COMMAND, "approve", str(coordinator.folder), leaf], check=True)

    words = [*COMMAND, "release", str(coordinator.folder)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)

    assert "1 contribution waits in quarantine" in done.stdout
    assert f"orthofed coordinator contributions {coordinator.folder}" in done.stdout


def test_nothing_to_release_is_said_in_words(coordinator):
    """Release before any contribution: refused, nothing planned."""
    words = [*COMMAND, "release", str(coordinator.folder)]

    done = subprocess.run(words, check=False, capture_output=True, text=True)

    assert done.returncode != 0
    assert "there is nothing to release" in done.stderr
