"""Gates that need bytes and base alone are looked at before anything is sent, by the same rules.

What a coordinator refuses is refused at home; what it would put into quarantine is a warning, and
the owner decides.
"""

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from orthofed.client.base_folder import BaseFolder
from orthofed.client.egress import EgressList
from orthofed.client.happened import Happened
from orthofed.client.home import Home
from orthofed.client.join import join
from orthofed.client.state import load
from orthofed.client.status import status_of
from orthofed.client.train_command import train_concept
from orthofed.client.train_options import TrainOptions
from orthofed.client.train_view import TrainView
from orthofed.client.weighing import Weighing
from orthofed.coordinator.admission import check_blob
from orthofed.coordinator.policy import Policy
from orthofed.core.bounds import Bounds
from orthofed.core.errors import ContributionRejected
from orthofed.core.layout import ContributionLayout

from .coordinator_process import Coordinator
from .lenient import ANYTHING
from .member import random_blob
from .owner_daemon import TRAINING
from .tiny_base import tiny_base
from .tiny_concept import tiny_spec, write_images

TIGHT = replace(ANYTHING, embedding_percent=1, budget_percent=900)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("weighed") / "base")


@pytest.fixture(scope="module")
def layout(base) -> ContributionLayout:
    return ContributionLayout(tiny_spec(base), (1,))


@pytest.mark.parametrize("size", [0.01, 0.05, 0.2, 0.4])
@pytest.mark.parametrize("norm_percent", [20, 100, 10_000])
def test_home_and_coordinator_measure_and_refuse_alike(base, layout, tmp_path, size, norm_percent):
    """The same figures to the last digit, or the same refusal in the same words."""
    blob = random_blob(layout.spec, (1,), seed=3, size=size)
    policy = Policy(norm_percent=norm_percent)
    path = tmp_path / "blob"
    path.write_bytes(blob)
    said: list[object] = []

    for look in (
        lambda: check_blob(
            path,
            layout,
            sha256=hashlib.sha256(blob).hexdigest(),
            norms=BaseFolder(base).measures(layout.spec),
            policy=policy,
        ),
        lambda: Weighing.of(blob, layout, base, told=policy.bounds(4)).sizes,
    ):
        try:
            said.append(look())
        except ContributionRejected as error:
            said.append((error.code, error.what))

    assert said[0] == said[1]


def test_what_has_not_the_form_is_refused_at_home(base, layout):
    """T5, T7: another size, another header, an integer outside of normal form."""
    blob = random_blob(layout.spec, (1,), seed=3, size=0.01)
    start = len(layout.header)
    dead = blob[:start] + bytes(len(blob) - start)

    for changed in (blob[:-2], blob + b"\0\0", b"{" + blob[1:][::-1], dead):
        with pytest.raises(ContributionRejected):
            Weighing.of(changed, layout, base, told=None)


def test_bounds_that_nobody_told_are_those_that_ship(base, layout):
    """An earlier coordinator says nothing: what ships counts, and the owner hears so."""
    blob = random_blob(layout.spec, (1,), seed=3, size=0.01)
    printed = io.StringIO()
    view = TrainView(Console(file=printed, width=400))

    for told in (None, Bounds(norm_percent=70)):
        weighing = Weighing.of(blob, layout, base, told=told)
        view.show(Happened("weighed", weighing.values()))

    words = printed.getvalue().splitlines()
    assert "(100 allowed)" in words[0]
    assert "orthofed's defaults" in words[0]
    assert "(70 allowed)" in words[1]
    assert "defaults" not in words[1]


def test_a_layer_that_alone_breaks_the_house_budget_is_a_warning(base, layout):
    """The operator's budget may be below the cap of one: then every release would be held."""
    blob = random_blob(layout.spec, (1,), seed=3, size=0.05)

    weighing = Weighing.of(blob, layout, base, told=Bounds(10_000, 10_000, budget_percent=1))

    (warning,) = weighing.warnings
    assert warning.startswith("a held release: a layer's A is")


@pytest.fixture(scope="module")
def federation(base, tmp_path_factory):
    """Serve a federation whose operator allows short vectors only."""
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("tight")
    write_images(place / "images", 6)
    (place / "quick.toml").write_text(TRAINING)
    with Coordinator.found(place / "fed", base, "--rank", "1") as running:
        settings(running, TIGHT)
        yield place, running


def settings(coordinator: Coordinator, policy: Policy) -> None:
    """Change what is allowed, and start the coordinator again."""
    path = coordinator.folder / "coordinator.toml"
    path.write_text(path.read_text().partition("[admission]")[0] + policy.to_toml())
    coordinator.start()


def trained(federation, base, home: Home, concept: str, *, on_event=lambda _: None, yes=True):
    """Run the command; return its session, what it said and what it asked."""
    place, coordinator = federation
    join(home, coordinator.invite(), url=None, patience_s=20)
    events: list[Happened] = []
    asked: list[EgressList] = []

    def report(happened: Happened) -> None:
        events.append(happened)
        on_event(happened)

    def ask(listing: EgressList) -> bool:
        asked.append(listing)
        return yes

    options = TrainOptions(
        concept=concept,
        noun="fox",
        images=place / "images",
        base=base,
        config=place / "quick.toml",
    )
    session = train_concept(home, options, report=report, ask=ask, patience_s=20)
    return session, events, asked


def test_what_would_be_quarantined_is_said_before_the_upload(federation, base, tmp_path):
    """The owner reads the coordinator's own sentence, and may send all the same."""
    home = Home.at(tmp_path / "home")

    session, events, asked = trained(federation, base, home, "wolf-a1")

    (warning,) = asked[0].warnings
    (weighed,) = (e.values for e in events if e.name == "weighed")
    names = [e.name for e in events]
    (row,) = status_of(home)["concepts"]
    assert warning.startswith("quarantine: a learned vector is")
    assert weighed["warnings"] == [warning]
    assert weighed["told"]
    assert names.index("weighed") < names.index("uploading")
    assert (session.phase, row["state"]) == ("receipted", "quarantined")
    assert warning == f"quarantine: {row['why']}"


def test_a_refusal_that_comes_only_at_the_commit_is_taken_as_before(federation, base, tmp_path):
    """The operator lowers the cap while the owner thinks: refused there, the slot is kept."""
    _, coordinator = federation
    home = Home.at(tmp_path / "home")

    def tighten(happened: Happened) -> None:
        if happened.name == "egress":
            settings(coordinator, replace(TIGHT, norm_percent=1))

    settings(coordinator, replace(TIGHT, norm_percent=10_000))
    wild = federation[0] / "quick.toml"
    before = wild.read_text()
    wild.write_text(TRAINING.replace("rate = 1e-4", "rate = 1e-2\nclip_norm = 0.0"))
    try:
        with pytest.raises(ContributionRejected, match="spectral norm"):
            trained(federation, base, home, "boar-l1", on_event=tighten)
    finally:
        wild.write_text(before)
        settings(coordinator, TIGHT)

    session = load(home.run("boar-l1"))
    assert session is not None
    assert session.phase == "leased"
