"""Runs one scenario: coordinator, clients by an engine, releases on the way, and the reckoning."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from ..core.errors import InputError
from .circumstances import circumstances
from .costs import costs, retentions, spread
from .federation import Federation, run_json
from .outcome import outcome, sha256_of
from .plan import Plan
from .scenario import Scenario
from .toy import width_for

Engine = Literal["local", "flower"]
_LOOK_S = 0.5


def simulate(
    folder: Path,
    scenario: Scenario,
    *,
    engine: Engine = "local",
    processes: int = 2,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Run it in a new or empty ``folder`` and return the report.

    Raises InputError: the scenario has more clients than slots. Raises OrthoFedError: something of
    the machinery failed, not a client's part.
    """
    wanted = scenario.clients * scenario.rank
    width = width_for(wanted)
    if width is None:
        raise InputError(
            f"{scenario.clients} clients of rank {scenario.rank} take {wanted} columns",
            why="the toy's widest layer has 4096",
            fix="ask for fewer clients, or a lower rank",
            code="bad-scenario",
        )
    began_s = time.monotonic()
    founding = Plan(folder, scenario, width, 0.0)
    with Federation(founding) as federation:
        founding.make()
        plan = Plan(folder, scenario, width, time.time())
        releases = _Releases(plan, federation, say)
        _play(engine)(plan, processes=processes, meanwhile=releases.look)
        clients_s = time.monotonic() - began_s
        releases.last()
        listed = federation.ask("contributions", str(federation.folder))["contributions"]
        spent = federation.spent()
    say("reading every stored byte again")
    doctor = run_json(["doctor", str(federation.folder)], allowed=(0, 4))
    found = outcome(plan, plan.told(), releases.made, listed, doctor)
    found["costs"] = releases.costs()
    return {
        "schema": "orthofed.simulation/1",
        **circumstances(),
        "engine": engine,
        "scenario": scenario.as_dict(),
        **found,
        **spent,
        "clients_s": round(clients_s, 1),
        "seconds": round(time.monotonic() - began_s, 1),
    }


def _play(engine: Engine) -> Callable[..., None]:
    if engine == "flower":
        from . import flower_engine

        return flower_engine.play
    from . import local_engine

    return local_engine.play


class _Releases:
    """Releases while clients still come: each when its share of the clients has told."""

    def __init__(self, plan: Plan, federation: Federation, say: Callable[[str], None]) -> None:
        self._plan, self._federation, self._say = plan, federation, say
        self.made: list[dict[str, Any]] = []
        self._told = -1
        self._newest: tuple[Path, tuple[str, ...]] | None = None

    def look(self) -> None:
        """Say how far it is, and release if it is time; takes half a second or more."""
        time.sleep(_LOOK_S)
        scenario, told = self._plan.scenario, self._plan.num_told()
        if told // 50 != self._told // 50:
            self._say(f"{told} of {scenario.clients} clients are done")
        self._told = told
        due = (len(self.made) + 1) * scenario.clients / scenario.releases
        if len(self.made) + 1 < scenario.releases and told >= due:
            self._release()

    def last(self) -> None:
        """Make the release with everybody."""
        self._release()

    def costs(self) -> list[dict[str, float]]:
        """Return what the first 1, 2, 4, ... concepts of the newest release cost and keep."""
        if self._newest is None:
            return []
        self._say("weighing what each concept more costs")
        return costs(self._plan, self._plan.told(), *self._newest)

    def _release(self) -> None:
        began_s = time.monotonic()
        made = self._federation.ask("release", str(self._federation.folder))
        seconds = time.monotonic() - began_s
        if not made["new"]:
            return
        folder = Path(made["folder"])
        lora = folder / "lora" / f"simulation-r{made['n']:04d}.safetensors"
        manifest = json.loads((folder / "info.json").read_bytes())
        merged = sorted(manifest["concepts"], key=lambda each: each["slot"])
        names = tuple(each["concept"] for each in merged)
        kept = retentions(self._plan, self._plan.told(), lora, names)
        self._newest = lora, names
        files = [path for path in folder.rglob("*") if path.is_file()]
        self.made.append(
            {
                "n": made["n"],
                "concepts": made["concepts"],
                "seconds": round(seconds, 2),
                "bytes": sum(path.stat().st_size for path in files),
                "lora_bytes": lora.stat().st_size,
                "tensors_sha256": sha256_of(lora),
                "retention": {"concepts": len(kept), **spread(kept)},
            }
        )
        self._say(f"release {made['n']}: {made['concepts']} concepts in {seconds:.1f} s")
