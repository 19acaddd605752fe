"""A data owner who teaches the tiny base, in this process: options in, events and questions kept.

``TrainingOwner(place, home)`` runs what `orthofed client train` runs, by quick settings. Of the
fixtures, ``place`` (base, images, settings), ``coordinator`` and ``invite`` are shared by the tests
of a file, and ``owner`` is each test's own.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from orthofed.client.egress import EgressList
from orthofed.client.happened import Happened
from orthofed.client.home import Home
from orthofed.client.join import join
from orthofed.client.session import Session
from orthofed.client.train_command import train_concept
from orthofed.client.train_options import TrainOptions
from orthofed.core.canonical import decode
from orthofed.proto import methods

from .coordinator_process import Coordinator
from .owner_daemon import TRAINING
from .tiny_base import tiny_base
from .tiny_concept import write_images

UNSIGNED = {method.path for method in methods.METHODS if method.signer == "nobody"}


@dataclass
class TrainingOwner:
    """One data owner: a home and what the command said."""

    place: Path
    home: Home
    events: list[Happened] = field(default_factory=list)
    asked: list[EgressList] = field(default_factory=list)
    answer: bool = True
    on_event: Callable[[Happened], None] = lambda _: None

    def options(self, concept: str) -> TrainOptions:
        """Return the options of a quick training."""
        return TrainOptions(
            concept=concept,
            noun="fox",
            images=self.place / "images",
            base=self.place / "base",
            config=self.place / "quick.toml",
        )

    def cached(self, more: str = "") -> Path:
        """Write settings with a cache on disk and class images, and return their file."""
        path = self.home.folder / "cached.toml"
        prior = "prior_weight = 1.0\nprior_images = 4\nprior_steps = 2\n"
        path.write_text(f'{TRAINING}cache = "disk"\n{prior}{more}')
        return path

    def train(self, options: TrainOptions, *, patience_s: float = 20) -> Session:
        """Run the command."""

        def report(happened: Happened) -> None:
            self.events.append(happened)
            self.on_event(happened)

        def ask(listing: EgressList) -> bool:
            self.asked.append(listing)
            return self.answer

        return train_concept(self.home, options, report=report, ask=ask, patience_s=patience_s)

    def names(self) -> list[str]:
        """Return the names of the events, each once in a row."""
        names = [happened.name for happened in self.events]
        return [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]

    def steps(self) -> int:
        """Return how many training steps were done."""
        return sum(happened.name == "step" for happened in self.events)


class Killed(Exception):
    """The process ends here."""


def kill_at(name: str) -> Callable[[Happened], None]:
    """Return what ends the process when it says this."""

    def on_event(happened: Happened) -> None:
        if happened.name == name:
            raise Killed

    return on_event


def sent_messages(home: Home) -> list[dict[str, object]]:
    """Return what was sent in the owner's name; asking for public files is no such message."""
    lines = (home.folder / "outbox.jsonl").read_bytes().splitlines()
    entries = [entry for line in lines if isinstance(entry := decode(line), dict)]
    return [entry for entry in entries if entry["method"] not in UNSIGNED]


def furnished(folder: Path) -> Path:
    """Lay a tiny base, images of one concept and quick settings into ``folder``; return it."""
    torch.set_num_threads(1)
    tiny_base(folder / "base")
    write_images(folder / "images", 6)
    (folder / "quick.toml").write_text(TRAINING)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the folder with base, images and settings that all tests share."""
    return furnished(tmp_path_factory.mktemp("owners"))


@pytest.fixture(scope="module")
def coordinator(place: Path) -> Iterator[Coordinator]:
    with Coordinator.found(place / "fed", place / "base", "--rank", "1") as running:
        yield running


@pytest.fixture(scope="module")
def invite(coordinator: Coordinator) -> str:
    return coordinator.invite(uses=50)


@pytest.fixture
def owner(invite: str, place: Path, tmp_path: Path) -> TrainingOwner:
    home = Home.at(tmp_path / "home")
    join(home, invite, url=None, patience_s=20)
    return TrainingOwner(place, home)
