"""The coordinator of a simulation: served and asked by the commands an operator types."""

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ..client.processes import orthofed
from ..coordinator.clock import SystemClock
from ..coordinator.folder import Settings
from ..coordinator.founding import Choices, found
from ..coordinator.fs import Fs
from ..core.errors import OrthoFedError
from ..core.spec import Limits
from .plan import Plan

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Federation:
    """One coordinator in a process of its own; use it as a context manager."""

    plan: Plan
    _process: "subprocess.Popen[str] | None" = None

    @property
    def folder(self) -> Path:
        """The coordinator's folder."""
        return self.plan.folder / "federation"

    def __enter__(self) -> Self:
        """Found it, serve it, and write the invite of all clients."""
        scenario = self.plan.scenario
        choices = Choices(
            name="simulation",
            rank=scenario.rank,
            lambda_1024=round(scenario.lambda_ * 1024),
            limits=Limits(ttl_s=scenario.ttl_s, hold_s=max(86_400, scenario.ttl_s)),
            seed=hashlib.sha256(f"orthofed-simulation/{scenario.seed}".encode()).digest(),
        )
        settings = Settings(base=self.plan.toy.write(self.plan.base), reserve_mib=1)
        found(self.folder, choices, settings, clock=SystemClock(), fs=Fs(), say=lambda _: None)
        # stderr is kept: it holds a line for each lease and contribution.
        with (self.plan.folder / "coordinator.jsonl").open("w", encoding="utf-8") as log:
            words = ["serve", str(self.folder), "--listen", "127.0.0.1:0", "--log", "json"]
            self._process = subprocess.Popen(  # noqa: S603  # our own command, no shell
                orthofed(["coordinator", *words, "--json"]),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        if self._process.stdout is None or not self._process.stdout.readline():
            self._process.wait()
            raise OrthoFedError(
                "the simulation's coordinator ended at its start",
                why=(self.plan.folder / "coordinator.jsonl").read_text("utf-8")[-500:],
                fix="run the simulation with --keep DIR, and serve DIR/federation by hand",
                code="coordinator-ended",
            )
        uses = str(scenario.clients)
        invite = self.ask("invite", str(self.folder), "--uses", uses, "--operator")
        (self.plan.folder / "invite").write_text(invite["invite"], encoding="ascii")
        return self

    def __exit__(self, *_exc: object) -> None:
        """End the coordinator."""
        self.stop()

    def stop(self) -> None:
        """End the coordinator, once."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def spent(self) -> dict[str, float]:
        """Return the coordinator's processor seconds and its memory's peak so far."""
        proc = Path(f"/proc/{self._process.pid}") if self._process else Path("/proc/none")
        if not proc.is_dir():
            return {}
        ticks = proc.joinpath("stat").read_text("ascii").rpartition(")")[2].split()
        lines = proc.joinpath("status").read_text("ascii").splitlines()
        peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        seconds = (int(ticks[11]) + int(ticks[12])) / _TICKS
        return {"coordinator_cpu_s": round(seconds, 2), "coordinator_rss_mb": peak // 1024}

    def ask(self, *words: str) -> dict[str, Any]:
        """Return what `orthofed coordinator WORDS --json` prints. Raises OrthoFedError."""
        return run_json(["coordinator", *words])


def run_json(words: list[str], *, allowed: tuple[int, ...] = (0,)) -> dict[str, Any]:
    """Return what a command prints with --json. Raises OrthoFedError: it failed."""
    done = subprocess.run(  # noqa: S603  # our own command, no shell
        orthofed([*words, "--json"]), capture_output=True, text=True, check=False
    )
    if done.returncode not in allowed:
        raise OrthoFedError(
            f"orthofed {' '.join(words[:2])} ended with exit code {done.returncode}",
            why=done.stderr.strip()[-500:],
            fix="run the simulation with --keep DIR, and the command by hand",
            code="command-failed",
        )
    return json.loads(done.stdout)
