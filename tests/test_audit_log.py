"""The audit log: who did what, before it is done; what is changed afterwards is found."""

import errno
import getpass
import json
import os
import shutil
import threading

import pytest

from orthofed.coordinator import audit_log
from orthofed.coordinator.audit_log import AuditLog, entries
from orthofed.coordinator.audited_desk import AuditedDesk
from orthofed.coordinator.caller import who_runs
from orthofed.coordinator.clock import SystemClock
from orthofed.coordinator.control import ControlClient, ControlServer
from orthofed.coordinator.doctor import examine
from orthofed.core.errors import OrthoFedError, Refused, VerificationFailed

from .coordinator_process import Coordinator, run
from .serving import FastFs, founded, running


def log_at(path, fs=None):
    """Open the log of a folder."""
    return AuditLog(path / "audit.log", fs=fs or FastFs(), clock=SystemClock())


def test_commands_are_told_with_who_gave_them(tmp_path):
    """Beside a running coordinator and without: op, arguments, outcome, user; no invite's word."""
    folder = founded(tmp_path)
    with Coordinator(folder.root) as own:
        own.start()
        invite = own.invite(uses=3)
        refused = run("coordinator", "reject", str(folder.root), "9", "--why", "no", check=False)
    run("coordinator", "invite", str(folder.root), "--days", "2")

    shown = run("coordinator", "audit-log", str(folder.root), "--json").stdout
    acts = json.loads(shown)["acts"]
    assert refused.returncode == 3
    assert [(act["op"], act["said"]) for act in acts] == [
        ("invite", "ok"),
        ("reject", "not-found"),
        ("invite", "ok"),
    ]
    assert acts[0]["args"] == {"uses": 3, "days": 7, "operator": False}
    assert {act["who"].rpartition(" as ")[2] for act in acts} == {getpass.getuser()}
    assert invite.rpartition(":")[2] not in folder.audit_log.read_text()
    assert folder.audit_log.stat().st_mode & 0o777 == 0o600


class Broken:
    """A desk whose file system has gone."""

    def ask(self, op, args):
        del args
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", f"/volume/{op}")


def test_what_nobody_foresaw_is_answered_and_logged(tmp_path, caplog):
    """A number that no database holds, a volume that vanished: not `it does not answer`."""
    with running(founded(tmp_path)) as own:
        log = log_at(tmp_path)
        for desk, code, words in (
            (AuditedDesk(own.desk, log, "wren"), "coordinator-fault", "OverflowError"),
            (Broken(), "os-error", "/volume/approve"),
        ):
            control = ControlServer(own.folder.control, lambda _, desk=desk: desk)
            with pytest.raises(OrthoFedError, match=words) as said:
                ControlClient(own.folder.control).ask("approve", {"leaf": 1 << 80})
            control.close()
            assert said.value.code == code
        log.close()
    typed = run("coordinator", "approve", str(own.folder.root), str(1 << 80), check=False)

    assert [record.exc_info is not None for record in caplog.records] == [True, True]
    assert [(each.op, each.said) for each in entries(tmp_path / "audit.log")] == [
        ("approve", ""),
        ("", "failed"),
    ]
    assert typed.returncode == 2
    assert "is not in the range" in typed.stderr


def test_a_keyring_that_is_installed_without_its_coordinator_is_told(tmp_path):
    """The ledger key is lost, so no desk can witness it; the refused try is told as well."""
    folder = founded(tmp_path)
    (folder.keys / "ledger.pem").unlink()
    place, out, words = str(folder.root), str(tmp_path / "next.json"), ("coordinator", "keyring")
    run(*words, "propose", place, "--ledger", "-o", out)
    unsigned = run(*words, "install", place, out, check=False)
    run(*words, "sign", out, "--key", str(folder.keys / "root.pem"))
    run(*words, "install", place, out)

    shown = json.loads(run("coordinator", "audit-log", place, "--json").stdout)["acts"]

    assert unsigned.returncode == 4
    assert [act["op"] for act in shown] == ["keyring-install", "keyring-install"]
    assert (shown[0]["said"] != "ok", shown[1]["said"]) == (True, "ok")
    assert shown[1]["who"].rpartition(" as ")[2] == getpass.getuser()


def test_looking_is_no_act(tmp_path):
    """Status, lists and links leave no line; an operation that nobody knows does."""
    with running(founded(tmp_path)) as own:
        log = log_at(tmp_path)
        desk = AuditedDesk(own.desk, log, "wren")
        for op in ("status", "contributions", "members", "link", "keyring"):
            desk.ask(op, {})
        with pytest.raises(OrthoFedError):
            desk.ask("melt", {})
        log.close()

    said = [(entry.op, entry.said) for entry in entries(tmp_path / "audit.log")]
    assert said == [("melt", ""), ("", "unknown-operation")]


def test_long_texts_stand_as_their_hash(tmp_path):
    """A keyring of some kilobytes is named by its SHA-256, a short reason stands as it is."""
    log = log_at(tmp_path)
    args = {"document": "x" * 5_000, "why": "a" * 200}
    log.ended(log.begun("wren", "keyring-install", args), "ok")
    log.close()

    entry, _ = entries(tmp_path / "audit.log")
    assert str(entry.args["document"]).startswith("sha256:")
    assert entry.args["why"] == "a" * 200


def test_every_changed_byte_before_the_last_line_is_found(tmp_path):
    """Each byte of each line but the last, changed; a line removed; two lines swapped."""
    log = log_at(tmp_path)
    for name in ("a", "b", "c"):
        log.ended(log.begun(name, "revoke", {"member": name}), "ok")
    log.close()
    path = tmp_path / "audit.log"
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    changed = [
        whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        for at in range(len(whole) - len(lines[-1]))
    ]
    moved = [b"".join([*lines[:i], *lines[i + 1 :]]) for i in range(len(lines) - 1)]
    moved += [b"".join([lines[1], lines[0], *lines[2:]])]

    assert len(list(entries(path))) == 6
    for bad in (*changed, *moved):
        path.write_bytes(bad)
        with pytest.raises(VerificationFailed, match="does not follow"):
            list(entries(path))


def test_a_line_that_a_crash_cut_goes_and_the_next_follows(tmp_path, monkeypatch):
    """Cut at every byte: what is whole stays, the rest goes, and the chain goes on."""
    monkeypatch.setattr(audit_log, "_PATIENCE_S", 0)  # its act never ends
    log = log_at(tmp_path)
    log.ended(log.begun("wren", "approve", {"leaf": 3}), "ok")
    log.close()
    path = tmp_path / "audit.log"
    whole = path.read_bytes()

    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        kept = whole[:cut].count(b"\n")
        again = log_at(tmp_path)
        again.begun("wren", "reject", {"leaf": 4})
        again.close()
        found = list(entries(path))
        assert [entry.n for entry in found] == list(range(1, kept + 2)), cut
        assert found[-1].op == "reject"


def test_a_broken_log_is_moved_aside_and_named(tmp_path):
    """A start goes on with a new log that says so; doctor names the old one, with exit code 4."""
    folder = founded(tmp_path)
    run("coordinator", "invite", str(folder.root))
    text = folder.audit_log.read_text()
    folder.audit_log.write_text(text.replace('"uses": 1', '"uses": 2'))
    before = examine(folder.root, say=lambda _: None)

    run("coordinator", "invite", str(folder.root))
    after = run("doctor", str(folder.root), check=False)

    assert [each.file for each in before.scrubbed.findings] == ["data/audit.log"]
    assert after.returncode == 4
    assert "audit.log.broken-" in after.stdout
    assert [entry.op for entry in entries(folder.audit_log) if entry.op] == [
        "audit-log-moved",
        "invite",
    ]


def test_what_cannot_be_written_down_is_not_done(tmp_path):
    """The disk fills in the middle of the line: no act, no half a line; with room it goes on."""

    class Full(FastFs):
        room = 1 << 20

        def write(self, fd, data, *, offset=None):
            if len(data) > self.room:
                os.write(fd, data[: self.room])
                raise Refused("the disk is full", why="-", fix="-", code="no-room")
            super().write(fd, data, offset=offset)

    fs = Full()
    with running(founded(tmp_path)) as own:
        log = log_at(tmp_path, fs)
        desk = AuditedDesk(own.desk, log, "wren")
        desk.ask("invite", {"uses": 1, "days": 1, "operator": False})
        invites = "SELECT COUNT(*) FROM invite"
        count = own.house.store.run(lambda db: db.execute(invites).fetchone()[0])
        fs.room = 20
        with pytest.raises(Refused, match="full"):
            desk.ask("invite", {"uses": 1, "days": 1, "operator": False})
        assert own.house.store.run(lambda db: db.execute(invites).fetchone()[0]) == count
        fs.room = 1 << 20
        desk.ask("invite", {"uses": 1, "days": 1, "operator": False})
        log.close()

    assert [entry.n for entry in entries(tmp_path / "audit.log")] == [1, 2, 3, 4]


class Slow:
    """A desk that is at work when the coordinator is told to stop."""

    def __init__(self):
        self.begun, self.go = threading.Event(), threading.Event()

    def ask(self, op, args):
        del op, args
        self.begun.set()
        self.go.wait(10)
        return {}


def test_a_stop_waits_for_what_is_under_way_and_no_longer(tmp_path, monkeypatch):
    """SIGTERM in the middle of `plan`: its line went to a closed file, or to one of its number."""
    log, desk = log_at(tmp_path), Slow()
    act = threading.Thread(target=AuditedDesk(desk, log, "wren").ask, args=("plan", {}))
    stop = threading.Thread(target=log.close)
    act.start()
    assert desk.begun.wait(10)
    stop.start()
    while not log._closing:
        stop.join(0.01)
    with pytest.raises(OrthoFedError, match="is stopping"):
        AuditedDesk(desk, log, "wren").ask("invite", {})
    desk.go.set()
    stop.join(10)
    act.join(10)
    assert [entry.said for entry in entries(tmp_path / "audit.log")] == ["", "ok"]

    monkeypatch.setattr(audit_log, "_PATIENCE_S", 0.05)
    (tmp_path / "other").mkdir()
    log, desk = log_at(tmp_path / "other"), Slow()
    act = threading.Thread(target=AuditedDesk(desk, log, "wren").ask, args=("plan", {}))
    act.start()
    assert desk.begun.wait(10)
    log.close()
    fd = os.open(tmp_path / "next", os.O_RDWR | os.O_CREAT, 0o600)  # often the number of the log
    desk.go.set()
    act.join(10)
    os.close(fd)
    assert (tmp_path / "next").read_bytes() == b""
    assert [entry.said for entry in entries(tmp_path / "other" / "audit.log")] == [""]


def test_a_backup_holds_it_and_a_restore_goes_on(tmp_path):
    """The restored folder has the acts of its time, and the next one follows them."""
    folder = founded(tmp_path)
    run("coordinator", "invite", str(folder.root))
    run("coordinator", "backup", str(folder.root), "-o", str(tmp_path / "backup"))
    keys, new = str(folder.keys), tmp_path / "new"
    run("coordinator", "restore", str(tmp_path / "backup"), str(new), "--keys", keys)
    run("coordinator", "invite", str(new))

    assert [entry.op for entry in entries(new / "data" / "audit.log") if entry.op] == ["invite"] * 2
    shutil.rmtree(new)


def test_a_process_is_named_by_its_user():
    """This one by its own; one that is gone by its user's number alone."""
    assert who_runs(os.getpid(), os.getuid()).endswith(getpass.getuser())
    assert who_runs(2**22 + 1, 4_000_000_001) == "4000000001"
