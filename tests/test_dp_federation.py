"""`orthofed client train --dp eps=8` against a real coordinator: a claim beside the bytes.

Backs: "(epsilon, delta) per image, add or remove one, for what was sent, with this accountant and
this audit."
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from orthofed.client.dp_accountant import epsilon
from orthofed.client.egress import EgressList
from orthofed.client.gaussian_accountant import gaussian_epsilon
from orthofed.client.happened import Happened
from orthofed.client.home import Home
from orthofed.client.join import join
from orthofed.client.session import Session
from orthofed.client.state import ASKED, MANIFEST
from orthofed.client.status import status_of
from orthofed.client.train_command import train_concept
from orthofed.client.train_options import TrainOptions
from orthofed.client.train_view import TrainView
from orthofed.client.workbench import Workbench
from orthofed.core.contribution import ContributionManifest
from orthofed.core.document import parse
from orthofed.core.errors import InputError

from .coordinator_process import Coordinator, run
from .tiny_base import tiny_base
from .tiny_concept import tiny_spec, write_images

SETTINGS = """\
steps = 4
batch = 16
dp_batch = 30
dp_mean_steps = 4
null_images = 2
null_sampling_steps = 2
warmup_steps = 1
threads = 1
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the folder with base, settings, 64 images and a folder of six."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("dp")
    tiny_base(folder / "base")
    write_images(folder / "images", 64)
    write_images(folder / "few", 6)
    (folder / "private.toml").write_text(SETTINGS)
    return folder


@pytest.fixture(scope="module")
def coordinator(place: Path) -> Iterator[Coordinator]:
    with Coordinator.found(place / "fed", place / "base", "--rank", "1") as running:
        yield running


def _home(coordinator: Coordinator, folder: Path) -> Home:
    home = Home.at(folder / "home")
    join(home, coordinator.invite(uses=1), url=None, patience_s=20)
    return home


def _options(place: Path, **changes: Path) -> TrainOptions:
    return TrainOptions(
        concept="foxes-p1",
        noun="fox",
        images=changes.get("images", place / "images"),
        base=place / "base",
        config=place / "private.toml",
        dp_epsilon=8.0,
    )


def test_a_private_training_is_claimed_signed_shown_and_released(
    coordinator: Coordinator, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Gate, manifest, status, info.json and card say the same; epsilon can be computed again."""
    home, events, shown = _home(coordinator, tmp_path), list[Happened](), list[EgressList]()

    def accept(listing: EgressList) -> bool:
        shown.append(listing)
        return TrainView().accept(listing)

    options = _options(place)
    session = train_concept(home, options, report=events.append, ask=accept, patience_s=20)

    assert session.phase == "receipted"
    signed = parse((home.run("foxes-p1") / MANIFEST).read_bytes(), kind="contribution")
    claim = ContributionManifest.from_document(signed).dp
    assert claim is not None
    assert (claim.images, claim.q_ppm, claim.steps, claim.eps_milli) == (60, 500_000, 4, 8_000)
    told = {"q_ppm": claim.q_ppm, "steps": claim.steps, "delta_e12": claim.delta_e12}
    assert 7 < epsilon(**told, sigma_milli=claim.sigma_milli) <= 8
    (private,) = (event.values for event in events if event.name == "dp")
    assert private["sigma_milli"] == claim.sigma_milli
    assert 0 < float(str(private["noise_to_signal"])) < 1
    assert shown[0].dp == claim
    assert f"You claim and sign: {claim.said}" in " ".join(capsys.readouterr().err.split())
    (row,) = status_of(home)["concepts"]
    assert row["dp"] == claim.said

    coordinator.release()
    out = tmp_path / "release"
    run("pull", coordinator.link(), "-o", str(out))
    (entry,) = json.loads((out / "info.json").read_bytes())["concepts"]
    assert entry["dp"] == claim.body()
    assert f"- `foxes-p1`: {claim.said}" in (out / "card.md").read_text()


def test_one_noisy_mean_goes_the_whole_way(
    coordinator: Coordinator, place: Path, tmp_path: Path
) -> None:
    """`--dp-mode mean`: the claim names its mode everywhere; A is zero in what was sent."""
    home, events, shown = _home(coordinator, tmp_path), list[Happened](), list[EgressList]()

    def accept(listing: EgressList) -> bool:
        shown.append(listing)
        return True

    options = replace(_options(place), concept="foxes-m2", dp_mode="mean")
    session = train_concept(home, options, report=events.append, ask=accept, patience_s=20)

    assert session.phase == "receipted"
    signed = parse((home.run("foxes-m2") / MANIFEST).read_bytes(), kind="contribution")
    claim = ContributionManifest.from_document(signed).dp
    assert claim is not None
    assert (claim.mechanism, claim.accountant) == ("mean", "gaussian")
    assert (claim.images, claim.steps, claim.q_ppm) == (60, 1, 10**6)
    found = gaussian_epsilon(sigma_milli=claim.sigma_milli, delta_e12=claim.delta_e12)
    assert 7.9 < found <= 8
    norms = {tensor.name: tensor.norm for tensor in shown[0].tensors}
    assert {norm for name, norm in norms.items() if name.startswith("a.")} == {0.0}
    assert norms["embed.text_encoder.0"] > 0
    assert sum(event.name == "step" for event in events) == 4, "no count of images is renewed"

    coordinator.release()
    out = tmp_path / "release"
    run("pull", coordinator.link(), "-o", str(out))
    entries = json.loads((out / "info.json").read_bytes())["concepts"]
    assert claim.body() in [entry.get("dp") for entry in entries]
    assert f"- `foxes-m2`: {claim.said}" in (out / "card.md").read_text()


def test_a_mode_without_an_epsilon_is_refused(place: Path) -> None:
    """`--dp-mode mean` alone would train without noise; a misspelt mode is named."""
    spec = tiny_spec(place / "base", rank=1)
    bench = Workbench(spec, place / "base", place / "images", "fox", dp_mode="mean")

    with pytest.raises(InputError, match="--dp-mode mean without --dp"):
        _ = bench.settings
    with pytest.raises(InputError, match="--dp-mode 'median'"):
        replace(_options(place), dp_mode="median").check()


def test_noise_that_is_asked_for_in_a_leased_slot_is_bounded_too(
    place: Path, tmp_path: Path
) -> None:
    """The lease was taken without `--dp`; resumed with it, what would be noise is not trained."""
    bench = Workbench(
        tiny_spec(place / "base", rank=4),
        place / "base",
        place / "images",
        "fox",
        config=place / "private.toml",
        dp_epsilon=0.1,
    )
    session = Session("foxes", ("foxes",), (2,), "fox", "12" * 16, 1, "leased", 0, fence=1)
    folders = {name: tmp_path / name for name in ("cache", "classes", "log")}

    with pytest.raises(InputError, match="noise/signal") as caught:
        bench.train(session, tmp_path / "training", **folders, on_step=print)

    assert caught.value.code == "dp-below-the-floor"
    assert list(tmp_path.iterdir()) == []


def test_too_few_images_are_refused_before_a_lease(
    coordinator: Coordinator, place: Path, tmp_path: Path
) -> None:
    """Five images to train on: the figure, the bound, and what to do; nothing is leased."""
    home, events = _home(coordinator, tmp_path), list[Happened]()
    options = _options(place, images=place / "few")

    with pytest.raises(InputError, match="5 images to train on, at least 30 are needed"):
        train_concept(
            home,
            options,
            report=events.append,
            ask=lambda _: True,
            patience_s=20,
        )

    assert "leased" not in [event.name for event in events]


def test_noise_that_is_asked_for_at_the_gate_is_not_left_out(
    coordinator: Coordinator, place: Path, tmp_path: Path
) -> None:
    """Trained without, "no"; then --dp: too few images are refused, enough are trained again.

    Left away after that it stays; once sent without, --dp is refused and what to do is said.
    """
    home, events, shown = _home(coordinator, tmp_path), list[Happened](), list[EgressList]()
    folder = home.run("foxes-n3")
    answers = [False, False, False, True]

    def train(options: TrainOptions) -> None:
        def ask(listing: EgressList) -> bool:
            shown.append(listing)
            return answers[len(shown) - 1]

        train_concept(home, options, report=events.append, ask=ask, patience_s=20)

    few = replace(_options(place, images=place / "few"), concept="foxes-n3", dp_epsilon=None)
    with pytest.raises(InputError, match="were not sent"):
        train(few)
    bare = (folder / MANIFEST).read_bytes()
    with pytest.raises(InputError, match="5 images to train on, at least 30 are needed"):
        train(replace(few, dp_epsilon=8.0))
    assert (folder / MANIFEST).read_bytes() == bare, "nothing is lost by a refusal"
    with pytest.raises(InputError, match="were not sent"):
        train(replace(few, images=place / "images", dp_epsilon=8.0))
    with pytest.raises(InputError, match="were not sent"):
        train(replace(few, images=place / "images"))
    train(replace(few, images=place / "images"))

    said = [event.values for event in events if event.name == "again"]
    assert [each["trains"] for each in said] == [True, True]
    assert "dp_epsilon 8.0 in place of 0.0" in str(said[1]["what"])
    assert [listing.dp is not None for listing in shown] == [False, True, True, True]
    assert shown[1:3] == shown[2:4], "asked again about the very same bytes"
    signed = parse((folder / MANIFEST).read_bytes(), kind="contribution")
    assert ContributionManifest.from_document(signed).dp == shown[1].dp
    assert any(folder.glob("lost-*/manifest.json")), "what was made without noise is at home"


@pytest.mark.parametrize("recorded", [True, False])
def test_noise_is_refused_for_what_was_sent_without(
    recorded: bool, coordinator: Coordinator, place: Path, tmp_path: Path
) -> None:
    """With the receipt nothing can be changed; also in a home from before there were records."""
    home = _home(coordinator, tmp_path)
    name = f"foxes-{'q4' if recorded else 'q5'}"
    options = replace(_options(place, images=place / "few"), concept=name, dp_epsilon=None)
    told = {"report": lambda _: None, "ask": lambda _: True, "patience_s": 20}
    train_concept(home, options, **told)
    if not recorded:
        (home.run(name) / ASKED).unlink()

    with pytest.raises(InputError, match=f"{name} was sent, and this asks for dp_epsilon") as found:
        train_concept(home, replace(options, dp_epsilon=8.0), **told)
    again = train_concept(home, options, **told)

    assert found.value.code == "asked-otherwise"
    assert f"orthofed client withdraw {name}" in found.value.fix
    assert again.phase == "receipted"


@pytest.mark.parametrize("text", ["8", "eps=", "eps=many", "epsilon=8", "eps=8,delta=1"])
def test_dp_is_written_eps_and_a_number(text: str) -> None:
    """No other parameter can be set with it, so none can break it."""
    with pytest.raises(InputError, match="--dp") as caught:
        TrainOptions.epsilon_of(text)

    assert caught.value.fix.startswith("write --dp eps=8")
    assert TrainOptions.epsilon_of("eps=2.5") == 2.5
    assert TrainOptions.epsilon_of(None) is None


def test_the_command_takes_dp(tmp_path: Path) -> None:
    """Exit code 2 with advice where it is misspelt, before anything is loaded."""
    given = ("--concept", "a-b1", "--class-noun", "fox", "--images", ".", "--base", ".", "--yes")

    done = run("client", "train", *given, "--home", str(tmp_path), "--dp", "epsilon", check=False)

    assert done.returncode == 2
    assert "fix: write --dp eps=8" in done.stderr
