"""What every process of a simulation knows: where the files lie, the scenario, the toy.

    FOLDER/federation/     the coordinator's      FOLDER/base/       the toy as a base model
    FOLDER/invite          everybody's invite     FOLDER/homes/<k>/  client k's home
    FOLDER/turns/<k>       client k has leased    FOLDER/done/<k>.json  how it went; .npy its token

Files, not messages, since the engines have nothing else in common; each appears whole.
"""

import fcntl
import json
import os
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..client.home import Home
from .scenario import Client, Scenario
from .toy import Matrix, Toy

_LOOK_S = 0.02


@dataclass(frozen=True)  # no slots: cached_property keeps its values in the instance
class Plan:
    """One simulation's folder. ``started_s``: Unix seconds from which arrivals count."""

    folder: Path
    scenario: Scenario
    width: int
    started_s: float

    @cached_property
    def toy(self) -> Toy:
        """The base, made once a process."""
        return Toy.of(self.scenario.seed, self.width)

    @cached_property
    def clients(self) -> tuple[Client, ...]:
        """Everybody's part."""
        return self.scenario.cast()

    @property
    def base(self) -> Path:
        """The toy's folder."""
        return self.folder / "base"

    @property
    def invite(self) -> str:
        """The invite that all use."""
        return (self.folder / "invite").read_text("ascii")

    def home(self, client: Client) -> Home:
        """Return a client's home, made if need be."""
        home = Home.at(self.folder / "homes" / str(client.number))
        home.create()
        return home

    def make(self) -> None:
        """Make the folders that clients write to."""
        for name in ("homes", "turns", "done"):
            (self.folder / name).mkdir()

    def wait_for_turn(self, client: Client) -> None:
        """Wait until the client has arrived and everybody before it has leased, or failed to."""
        before = self.folder / "turns" / str(client.number - 1)
        time.sleep(max(0.0, self.started_s + client.arrives_s - time.time()))
        while client.number and not before.exists():
            time.sleep(_LOOK_S)

    def next_number(self) -> int:
        """Return 0, 1, 2 and so on, each to one caller of any process."""
        with (self.folder / "next").open("a+", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            number = int(file.read() or "0")
            file.truncate(0)
            file.write(str(number + 1))
        return number

    def pass_turn(self, client: Client) -> None:
        """Let the next one lease."""
        (self.folder / "turns" / str(client.number)).touch()

    def tell(self, client: Client, found: dict[str, object], token: Matrix | None) -> None:
        """Keep how it went."""
        place = self.folder / "done" / f"{client.number}.json"
        if token is not None:
            np.save(place.with_suffix(".npy"), token)
        part = place.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(found))
        part.replace(place)

    def told(self) -> dict[int, dict[str, object]]:
        """Return what was kept so far, by the client's number."""
        places = (self.folder / "done").glob("*.json")
        return {int(place.stem): json.loads(place.read_text()) for place in places}

    def num_told(self) -> int:
        """Return how many have told."""
        return sum(1 for _ in (self.folder / "done").glob("*.json"))

    def token(self, number: int) -> Matrix:
        """Return the token that a client learnt."""
        return np.load(self.folder / "done" / f"{number}.npy")

    def to_text(self) -> str:
        """Return it as a line for another process."""
        said = {"folder": str(self.folder), "width": self.width, "started_s": self.started_s}
        return json.dumps({**said, "scenario": self.scenario.as_dict()})

    @staticmethod
    def from_text(text: str) -> "Plan":
        """Read such a line."""
        said = json.loads(text)
        values = {("lambda_" if k == "lambda" else k): v for k, v in said["scenario"].items()}
        return Plan(Path(said["folder"]), Scenario(**values), said["width"], said["started_s"])
