"""Runs the console blocks of a page as a reader would type them, in one shell and one folder.

What a block shows below a command is compared with what the command printed, so a page cannot show
output that nobody gets. Nothing is replaced that the page does not declare, in comments that a
reader does not see:

    <!-- runner
    link: assets               the folder of the repository lies in the reader's folder
    port: 7443                 a free port stands for it
    varies: [0-9a-f]{16}       two spellings of it count as the same
    root: /var/lib/orthofed    a folder below the reader's stands for it
    adds: client train --steps 4    what starts so is typed with the options that follow
    -->

and right before a block

    <!-- runner: background until "listening on" -->    left running while the page goes on
    <!-- runner: file quick.toml -->                     the block is saved under that name
    <!-- runner: once the background has ended -->       typed after the newest of those has ended
    <!-- runner: exit 4 -->                              its last command fails so

In shown output a line `...` stands for any lines, and three dots inside one for any text. A command
that says behind it `# no test types this: REASON` is not typed, and test_doc_commands.py lists it.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]
NOT_TYPED = "# no test types this: "
WIDTH = 160
PATIENCE_S = 240.0
_FENCE = re.compile(
    r"(?:<!-- runner: (?P<order>.*?) -->\n+)?^(?P<pad> *)```(?P<kind>[a-z]*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Command:
    """One command as it is typed, and what the page shows below it."""

    typed: str
    shown: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """Why no test types it; empty: one does."""
        return self.typed.partition(NOT_TYPED)[2]


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its language, its text, and what the runner is told of it."""

    kind: str
    text: str
    order: str = ""

    @property
    def commands(self) -> list[Command]:
        """The commands of a console block."""
        found: list[tuple[str, list[str]]] = []
        goes_on = False
        for line in self.text.splitlines():
            if goes_on:
                typed, shown = found[-1]
                found[-1] = f"{typed}\n{line}", shown
                goes_on = line.endswith("\\")
            elif line.startswith("$ "):
                found.append((line[2:], []))
                goes_on = line.endswith("\\")
            elif found:
                found[-1][1].append(line)
            else:
                raise ValueError(f"a console block begins with {line!r}, not with a command")
        return [Command(typed, tuple(shown)) for typed, shown in found]


def blocks(page: Path) -> list[Block]:
    """Return every fenced block of a page, those inside of lists too."""
    found: list[Block] = []
    for match in _FENCE.finditer(page.read_text("utf-8")):
        pad = len(match["pad"])
        text = "".join(line[pad:] for line in match["text"].splitlines(keepends=True))
        found.append(Block(match["kind"], text, match["order"] or ""))
    return found


def console(page: Path) -> list[list[Command]]:
    """Return the commands of each console block of a page that a test can type."""
    found = [block.commands for block in blocks(page) if block.kind == "console"]
    kept = [[each for each in commands if not each.reason] for commands in found]
    return [commands for commands in kept if commands]


def declared(page: Path) -> dict[str, list[str]]:
    """Return what a page declares to its runner, by word."""
    found: dict[str, list[str]] = {word: [] for word in ("link", "port", "varies", "root", "adds")}
    for comment in re.findall(r"<!-- runner\n(.*?)-->", page.read_text("utf-8"), re.DOTALL):
        for line in comment.splitlines():
            word, _, value = line.strip().partition(": ")
            found[word].append(value.strip())
    return found


@dataclass(slots=True)
class Reader:
    """Somebody who types what pages say, in one folder: a shell, and what runs beside it."""

    folder: Path
    shell: "subprocess.Popen[str]"
    ports: dict[str, str] = field(default_factory=dict[str, str])
    roots: list[str] = field(default_factory=list[str])
    adds: dict[str, str] = field(default_factory=dict[str, str])
    running: list["subprocess.Popen[str]"] = field(default_factory=list["subprocess.Popen[str]"])

    def read(self, page: Path) -> None:
        """Type every block of a page; AssertionError: one failed, or printed something else."""
        words = declared(page)
        self._prepare(words)
        varies = re.compile("|".join(words["varies"]) or r"(?!)")
        for block in blocks(page):
            name = re.fullmatch(r"file (\S+)", block.order)
            until = re.fullmatch(r'background until "(.*)"', block.order)
            code = re.fullmatch(r"exit ([1-4])", block.order)
            if name is not None:
                (self.folder / name[1]).write_text(block.text, "utf-8")
            elif until is not None:
                self._start(block.commands, until[1], varies)
            elif block.kind == "console":
                if block.order == "once the background has ended":
                    self._wait()
                self._type(block.commands, int(code[1]) if code else 0, varies)
            elif block.order:  # only a console block runs, and only a file is saved
                raise ValueError(f"{page.name}: no runner knows {block.order!r}")

    def _prepare(self, words: dict[str, list[str]]) -> None:
        for name in words["link"]:
            if not (self.folder / name).exists():
                (self.folder / name).symlink_to(ROOT / name)
        for port in words["port"]:
            self.ports.setdefault(port, free_port())
        for root in words["root"]:
            (self.folder / root.strip("/")).mkdir(parents=True, exist_ok=True)
        self.roots = words["root"]
        self.adds = dict(each.split(" --", 1) for each in words["adds"])

    def _type(self, commands: list[Command], code: int, varies: re.Pattern[str]) -> None:
        typed = [command for command in commands if not command.reason]
        for command in typed:
            printed, ended = self._run(self._here(command.typed))
            wanted = code if command is typed[-1] else 0
            assert ended == wanted, f"$ {command.typed}\n{printed}\nexit code {ended}, not {wanted}"
            self._compare(command, printed, varies)

    def _run(self, typed: str) -> tuple[str, int]:
        """Return what one command printed, on both streams, and its exit code."""
        stdin, stdout = self.shell.stdin, self.shell.stdout
        assert stdin is not None
        assert stdout is not None
        mark = f"-- {time.monotonic_ns()} --"
        stdin.write(f"{{ {typed}\n}} </dev/null\nprintf '\\n%s %d\\n' '{mark}' $?\n")
        stdin.flush()
        late = threading.Timer(PATIENCE_S, end, (self.shell,))
        late.start()
        lines: list[str] = []
        for line in stdout:
            if line.startswith(mark):
                late.cancel()
                return "".join(lines)[:-1], int(line.split()[-1])
            lines.append(line)
        raise AssertionError(f"$ {typed}\n{''.join(lines)}\nit took more than {PATIENCE_S:.0f} s")

    def _start(self, commands: list[Command], until: str, varies: re.Pattern[str]) -> None:
        (command,) = commands
        log = self.folder / f"background-{len(self.running)}.log"
        with log.open("w") as out:
            self.running.append(_bash(self.folder, ["-c", self._here(command.typed)], out=out))
        give_up_s = time.monotonic() + PATIENCE_S
        while until not in (printed := log.read_text("utf-8")):
            assert self.running[-1].poll() is None, f"$ {command.typed}\n{printed}"
            assert time.monotonic() < give_up_s, f"$ {command.typed}\n{printed}"
            time.sleep(0.1)
        self._compare(command, printed, varies)

    def _wait(self) -> None:
        ended = self.running[-1].wait(timeout=PATIENCE_S)
        log = self.folder / f"background-{len(self.running) - 1}.log"
        assert ended == 0, f"exit code {ended}\n{log.read_text('utf-8')}"

    def _here(self, typed: str) -> str:
        for port, free in self.ports.items():
            typed = typed.replace(port, free)
        for root in self.roots:
            typed = re.sub(rf"(?<![\w/]){root}\b", f"{self.folder}{root}", typed)
        for words, options in self.adds.items():
            typed = typed.replace(f"orthofed {words} ", f"orthofed {words} --{options} ")
        return typed

    def _compare(self, command: Command, printed: str, varies: re.Pattern[str]) -> None:
        for port, free in self.ports.items():
            printed = printed.replace(free, port)
        for root in self.roots:
            printed = printed.replace(f"{self.folder}{root}", root)
        printed = printed.replace(str(self.folder), "~")
        if command.shown and not agrees("\n".join(command.shown), printed, varies):
            raise AssertionError(
                f"$ {command.typed}\n{printed}\nwas printed; the page shows\n"
                + "\n".join(command.shown)
            )


def agrees(shown: str, printed: str, varies: re.Pattern[str]) -> bool:
    """Return whether a page shows what was printed.

    Spaces at ends of lines and empty lines do not count, and runs of them are one.
    """
    wanted: list[str] = []
    for line in _plain(shown, varies).splitlines():
        if line == "...":
            wanted.append(r"(?:.*\n)*?")
        else:
            wanted.append(".*?".join(map(re.escape, line.split("..."))) + r"\n")
    return re.fullmatch("".join(wanted), _plain(printed, varies) + "\n") is not None


def _plain(text: str, varies: re.Pattern[str]) -> str:
    lines = (" ".join(varies.sub("~~", line).split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)


@contextmanager
def reader(folder: Path) -> Iterator[Reader]:
    """Sit down in an empty folder; at the end everything that was started is ended."""
    sat = Reader(folder, _bash(folder, [], out=subprocess.PIPE))
    try:
        yield sat
    finally:
        for process in (*reversed(sat.running), sat.shell):
            end(process)


def end(process: "subprocess.Popen[str]") -> None:
    """End a process and all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def free_port() -> str:
    """Return a port of this machine that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def environment(folder: Path) -> dict[str, str]:
    """Return what a reader's shell knows: our commands, a home of its own, a wide terminal."""
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(folder),
        "COLUMNS": str(WIDTH),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
    }


def _bash(folder: Path, words: list[str], *, out: "IO[str] | int") -> "subprocess.Popen[str]":
    return subprocess.Popen(
        ["bash", "--norc", *words],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.PIPE,
        stdout=out,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
