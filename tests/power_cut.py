"""What a power cut leaves: images of a folder, from a trace of the calls that changed it.

Model: what was synced is there. Of the rest, each file keeps nothing, everything, or any 512-byte
sectors of what was written to it since its last fsync; each folder keeps a prefix of what was done
to its names since its last fsync, apart from every other folder (stricter than a journal, which
keeps them in one order). A sync counts when it returned, and only for what came before it began.

``record`` traces one coordinator with strace; ``Trace.image`` writes the folder as it may be found
after a cut between two calls. Paths are relative to the folder; what else was written is no matter.
"""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SECTOR = 512
CALLS = (
    "openat,write,pwrite64,ftruncate,fallocate,fsync,fdatasync,rename,link,unlink,mkdir,rmdir,"
    "unlinkat,renameat,renameat2,linkat,mkdirat,writev,pwritev,pwritev2,sendto"
)
OPTIONS = ("-f", "-y", "-xx", "-s", "4000000", "-e", f"trace={CALLS}")
_FORM = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)(.*)$", re.DOTALL)
_WORD = re.compile(r'"((?:\\x[0-9a-f]{2})*)"|<((?:\\x[0-9a-f]{2})*)>')


@dataclass(frozen=True)
class Step:
    """One call that mattered, or one that tells how far the client had got."""

    call: str
    path: str = ""
    other: str = ""
    data: bytes = b""
    offset: int = 0
    size: int = 0


@dataclass(frozen=True)
class _Write:
    """Bytes at an offset; without bytes, a length: at least, or exactly when the offset is -1."""

    offset: int
    size: int
    data: bytes | None
    moment: int = 0


@dataclass
class _Inode:
    synced: bytes = b""
    pending: list[_Write] = field(default_factory=list)
    end: int = 0


class Trace:
    """The steps of one coordinator's life, in order."""

    def __init__(self, base: Path, folder: Path, output: Path) -> None:
        """Read a trace of ``folder``, which was as ``base`` still is when it began."""
        self._base = base
        self.steps = [step for _, step in sorted(_steps(output, str(folder)), key=lambda e: e[0])]

    def replies(self) -> list[int]:
        """Return after which steps the coordinator had sent its first, second, ... reply."""
        return [i + 1 for i, step in enumerate(self.steps) if step.call == "sendto"]

    def names_made_durable(self) -> list[int]:
        """Return after which steps a folder had been synced."""
        return [
            i + 1
            for i, step in enumerate(self.steps)
            if step.call == "synced" and (self._base / step.path).is_dir()
        ]

    def renames_made_durable(self) -> list[int]:
        """Return after which steps a folder had been synced whose newest name is a renamed file's.

        Not of folders that a start throws away, whatever is in them: their names begin with a dot.
        """
        found, newest, folders = list[int](), dict[str, str](), set[str]()
        for i, step in enumerate(self.steps):
            if step.call in ("create", "mkdir", "link", "unlink", "rmdir", "rename"):
                of = "folder" if step.path in folders else step.call
                newest[(step.other or step.path).rpartition("/")[0]] = of
                folders |= {step.path} if step.call == "mkdir" else set()
            elif "/." in step.path:
                continue
            elif step.call == "synced" and newest.pop(step.path, "") == "rename":
                found.append(i + 1)
        return found

    def image(self, cut: int, target: Path, rng: np.random.Generator) -> None:
        """Write what may be found after a cut behind the first ``cut`` steps."""
        disk = _Disk(self._base)
        for step in self.steps[:cut]:
            disk.take(step)
        shutil.rmtree(target, ignore_errors=True)
        disk.write(target, rng)


class _Disk:
    """What is synced, and what is only in the page cache."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._now: dict[str, _Inode | None] = {}  # None is a folder
        for path in base.rglob("*"):
            name = path.relative_to(base).as_posix()
            self._now[name] = None if path.is_dir() else _Inode(path.read_bytes())
        self._durable = dict(self._now)
        self._untouched = dict(self._now)
        self._log: list[tuple[int, str, Step, _Inode | None]] = []
        self._begun: dict[tuple[str, str], int] = {}
        self._moment = 0

    def take(self, step: Step) -> None:
        self._moment += 1
        inode = self._now.get(step.path)
        match step.call:
            case "create":
                if step.path not in self._now:
                    self._name(step, _Inode())
            case "mkdir" | "link" | "unlink" | "rmdir" | "rename":
                self._name(step, inode)
            case "syncing":
                self._begun[step.other, step.path] = self._moment
            case "synced":
                self._sync(step.path, inode, self._begun.pop((step.other, step.path), 0))
            case "sendto":
                pass
            case _ if inode is not None:
                self._write(step, inode)

    def _write(self, step: Step, inode: _Inode) -> None:
        offset = inode.end if step.call == "append" else step.offset
        data = step.data if step.call in ("write", "append") else None
        inode.pending.append(_Write(offset, step.size, data, self._moment))
        inode.end += step.size if step.call == "append" else 0

    def _name(self, step: Step, inode: _Inode | None) -> None:
        _rename(self._now, step, inode)
        folder = (step.other or step.path).rpartition("/")[0]
        self._log.append((self._moment, folder, step, inode))

    def _sync(self, path: str, inode: _Inode | None, began: int) -> None:
        """Make durable what was done before the sync began: to the file, or to a folder's names."""
        if inode is not None:
            inode.synced = _applied(inode.synced, [w for w in inode.pending if w.moment < began])
            inode.pending = [w for w in inode.pending if w.moment >= began]
            return
        kept: list[tuple[int, str, Step, _Inode | None]] = []
        for entry in self._log:
            if entry[0] < began and entry[1] == path:
                _rename(self._durable, entry[2], entry[3])
            else:
                kept.append(entry)
        self._log = kept

    def write(self, target: Path, rng: np.random.Generator) -> None:
        """Choose what survives, and write it."""
        names = dict(self._durable)
        lucky = rng.random() < 0.3  # else nothing survives that was not synced
        left = {
            folder: int(rng.integers(0, 1 + sum(entry[1] == folder for entry in self._log)))
            for folder in {entry[1] for entry in self._log}
        }
        for _, folder, step, inode in self._log:
            if lucky and left[folder] > 0:
                left[folder] -= 1
                _rename(names, step, inode)
        shutil.copytree(self._base, target, copy_function=lambda *_: None)
        for name in sorted(names):
            inode = names[name]
            path = target / name
            if inode is None:
                path.mkdir(parents=True, exist_ok=True)
            elif path.parent.is_dir():  # else its folder was not made durable
                path.write_bytes(_torn(inode, rng) if lucky else inode.synced)
                if (self._base / name).is_file():  # keys that others can read are refused
                    shutil.copymode(self._base / name, path)
        for name in self._untouched.keys() - names.keys():
            if self._untouched[name] is None:
                shutil.rmtree(target / name, ignore_errors=True)


def _rename(names: dict[str, _Inode | None], step: Step, inode: _Inode | None) -> None:
    match step.call:
        case "create" | "mkdir":
            names[step.path] = inode
        case "link":
            names[step.other] = inode
        case "unlink" | "rmdir":
            names.pop(step.path, None)
        case "rename":
            moved = [n for n in names if n == step.path or n.startswith(step.path + "/")]
            for name in moved:
                names[step.other + name.removeprefix(step.path)] = names.pop(name)
            if not moved and inode is not None:
                names[step.other] = inode  # its first name was never durable; the new one is


def _applied(data: bytes, writes: list[_Write]) -> bytes:
    out = bytearray(data)
    for write in writes:
        if write.data is None and write.offset < 0:
            del out[write.size :]
        end = write.size if write.offset < 0 else write.offset + write.size
        out += bytes(max(0, end - len(out)))
        if write.data is not None:
            out[write.offset : end] = write.data
    return bytes(out)


def _torn(inode: _Inode, rng: np.random.Generator) -> bytes:
    """Return the file with nothing, all, or some sectors of its unsynced writes."""
    how = rng.random()
    if how < 0.25:
        return inode.synced
    if how < 0.5:
        return _applied(inode.synced, inode.pending)
    kept: list[_Write] = []
    for write in inode.pending:
        if write.data is None:
            kept += [write] if rng.random() < 0.5 else []
            continue
        at = 0
        while at < len(write.data):  # sectors are those of the file, not of the write
            end = min(len(write.data), at + SECTOR - (write.offset + at) % SECTOR)
            if rng.random() < 0.5:
                kept.append(_Write(write.offset + at, end - at, write.data[at:end]))
            at = end
    return _applied(inode.synced, kept)


def _steps(output: Path, folder: str) -> Iterator[tuple[tuple[int, int], Step]]:
    """Give each step with its place; writes count from their start, syncs from their end."""
    for start, end, thread, text in _joined(output):
        found = _FORM.match(text)
        if found is None or found[3].startswith("-"):
            continue
        call, arguments, result, rest = found[1], found[2], int(found[3]), found[4]
        words = [
            bytes.fromhex((m[1] or m[2] or "").replace("\\x", ""))
            for m in _WORD.finditer(arguments + " " + rest)
        ]
        if call == "sendto":
            yield (start, 0), Step("sendto")
            continue
        places = [_inside(word, folder) for word in words]
        if "(deleted)" in arguments:
            continue
        yield from _meant(call, arguments, result, words, places, start, end, thread)


def _meant(  # noqa: C901  # one table of calls
    call: str,
    arguments: str,
    result: int,
    words: list[bytes],
    places: list[str | None],
    start: int,
    end: int,
    thread: str,
) -> Iterator[tuple[tuple[int, int], Step]]:
    numbers = [int(n) for n in re.findall(r"(?<=, )-?\d+(?=,|$)", arguments)]
    path = next((place for place in places if place is not None), None)
    if path is None:
        return
    match call:
        case "openat":
            if "O_CREAT" in arguments:
                yield (start, 0), Step("create", places[-1] or path)
            if "O_TRUNC" in arguments:
                yield (start, 1), Step("truncate", places[-1] or path, offset=-1)
        case "pwrite64":
            data = words[1][:result]
            yield (start, 0), Step("write", path, data=data, offset=numbers[-1], size=result)
        case "write":
            data = words[1][:result]
            yield (start, 0), Step("append", path, data=data, size=result)
        case "ftruncate":
            yield (start, 0), Step("truncate", path, offset=-1, size=numbers[-1])
        case "fallocate":
            yield (start, 0), Step("grow", path, offset=numbers[-2], size=numbers[-1])
        case "fsync" | "fdatasync":
            yield (start, 0), Step("syncing", path, thread)
            yield (end, 0), Step("synced", path, thread)
        case "rename" | "link":
            yield (start, 0), Step(call, places[0] or "", places[1] or "")
        case "unlink" | "rmdir" | "mkdir":
            yield (start, 0), Step(call, path)
        case _:
            raise AssertionError(f"the model does not know {call}({arguments[:200]})")


def _inside(word: bytes, folder: str) -> str | None:
    text = word.decode("latin-1")
    if text == folder:
        return ""
    return text.removeprefix(folder + "/") if text.startswith(folder + "/") else None


def _joined(output: Path) -> Iterator[tuple[int, int, str, str]]:
    """Give start line, end line, thread and text of each call, its two halves put together."""
    begun: dict[str, tuple[int, str]] = {}
    with output.open("r", encoding="latin-1") as file:
        for number, line in enumerate(file):
            thread, _, text = line.rstrip("\n").partition(" ")
            text = text.strip()
            if text.endswith("<unfinished ...>"):
                begun[thread] = number, text.removesuffix("<unfinished ...>").rstrip()
            elif text.startswith("<... "):
                start, first = begun.pop(thread)
                yield start, number, thread, first + text.partition(" resumed>")[2]
            else:
                yield number, number, thread, text
