"""`orthofed client train` against a real coordinator: from images to a receipt, and every way out.

The base is the tiny one, trainings have a few steps. What leaves, what stays, what a rerun does.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from orthofed.client.drawing import Drawing
from orthofed.client.egress import EgressList
from orthofed.client.happened import Happened
from orthofed.client.home import Home
from orthofed.client.join import join
from orthofed.client.release_score import score_release
from orthofed.client.rotation import rotate
from orthofed.client.sample import sample
from orthofed.client.session import Session
from orthofed.client.state import BLOB, MANIFEST, RECEIPT, WITHDRAWAL_RECEIPT, load
from orthofed.client.status import status_of
from orthofed.client.train_command import train_concept
from orthofed.client.train_options import TrainOptions
from orthofed.client.verify import verify_folder
from orthofed.client.withdrawal import withdraw
from orthofed.core.canonical import decode
from orthofed.core.errors import (
    ContributionRejected,
    InputError,
    LeaseLost,
    OrthoFedError,
    Refused,
    Unreachable,
)
from orthofed.proto import methods

from .coordinator_process import COMMAND, Coordinator, run
from .member import Member
from .tiny_base import tiny_base
from .tiny_concept import write_images

SETTINGS = """\
steps = 4
batch = 4
null_images = 2
null_sampling_steps = 2
warmup_steps = 1
rate = 1e-4
threads = 1
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the folder with base, images and settings that all tests share."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("owners")
    tiny_base(folder / "base")
    write_images(folder / "images", 6)
    (folder / "quick.toml").write_text(SETTINGS)
    return folder


@pytest.fixture(scope="module")
def coordinator(place: Path) -> Iterator[Coordinator]:
    with Coordinator.found(place / "fed", place / "base", "--rank", "1") as running:
        yield running


@pytest.fixture(scope="module")
def invite(coordinator: Coordinator) -> str:
    return coordinator.invite(uses=50)


@dataclass
class Owner:
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


@pytest.fixture
def owner(invite: str, place: Path, tmp_path: Path) -> Owner:
    home = Home.at(tmp_path / "home")
    join(home, invite, url=None, patience_s=20)
    return Owner(place, home)


_UPLOADING = {method.path for method in (methods.BEGIN, methods.PUT, methods.COMMIT)}
_UNSIGNED = {method.path for method in methods.METHODS if method.signer == "nobody"}


def _sent(home: Home) -> list[dict[str, object]]:
    """Return what was sent in the owner's name; asking for public files is no such message."""
    lines = (home.folder / "outbox.jsonl").read_bytes().splitlines()
    entries = [entry for line in lines if isinstance(entry := decode(line), dict)]
    return [entry for entry in entries if entry["method"] not in _UNSIGNED]


def test_from_images_to_a_receipt_and_a_score(
    owner: Owner, coordinator: Coordinator, tmp_path: Path
) -> None:
    """The whole way; then a release is pulled, verified and scored by the owner.

    The captions are the owner's own templates both times, so the same losses come out.
    """
    config = tmp_path / "own.toml"
    config.write_text(SETTINGS + 'templates = ["{} on a red tree", "the house of {}"]\n')
    session = owner.train(replace(owner.options("wolf-a1"), config=config))

    assert session.phase == "receipted"
    assert owner.names() == [
        *("checking", "probed", "leased", "step", "trained", "packing", "checking", "weighed"),
        *("scoring", "scored", "egress", "uploading", "receipt"),
    ]
    sizes = {file.name: file.num_bytes for file in owner.asked[0].files}
    folder = owner.home.run("wolf-a1")
    assert sizes == {
        "contribution.safetensors": (folder / BLOB).stat().st_size,
        "manifest.json": (folder / MANIFEST).stat().st_size,
    }
    assert not (folder / "training").exists(), "saves go once the receipt is kept"

    coordinator.release()
    out = tmp_path / "release"
    run("pull", coordinator.link(), "-o", str(out))
    found = score_release(
        owner.home,
        "wolf-a1",
        images=owner.place / "images",
        base=owner.place / "base",
        release=out,
        lambdas=(1.0, 0.5),
    ).score

    assert found.loss_single != found.loss_base
    kept = json.loads((folder / "scores.json").read_bytes())
    assert (found.loss_base, found.loss_single) == (kept["loss_base"], kept["loss_single"])
    assert set(found.loss_merged) == {1.0, 0.5}
    before = len(_sent(owner.home))
    words = ["--concept", "wolf-a1", "--images", str(owner.place / "images"), "--release", str(out)]
    words += ["--base", str(owner.place / "base"), "--home", str(owner.home.folder), "--json"]
    asks = run("client", "score", *words, "--send", check=False)
    told = json.loads(run("client", "score", *words, "--send", "--yes").stdout)
    table = json.loads(run("coordinator", "retention", str(coordinator.folder), "--json").stdout)
    (measured,) = [each["measured"] for each in table["concepts"] if each["concept"] == "wolf-a1"]

    assert asks.returncode == 2, "nobody was there to say yes"
    assert [str(each["method"]) for each in _sent(owner.home)[before:]] == [methods.SCORE.path]
    assert (told["sent"], told["release"]) == (True, table["release"])
    losses = [found.loss_base, found.loss_single, found.loss_merged[1.0]]
    assert [measured[f"{name}_millionths"] for name in ("base", "single", "merged")] == [
        round(loss * 1e6) for loss in losses
    ]
    (row,) = status_of(owner.home)["concepts"]
    assert (row["phase"], row["state"]) == ("receipted", "accepted")


def test_layer_wise_tokens_go_the_whole_way(place: Path, tmp_path: Path) -> None:
    """Founded, taught twice, released, pulled, verified, scored, drawn; ordinary loaders get none.

    The second owner's figures are made beside the first release, whose vectors are fetched.
    """
    with Coordinator.found(
        tmp_path / "fed", place / "base", "--rank", "1", "--layerwise-tokens"
    ) as running:
        owner = Owner(place, Home.at(tmp_path / "home"))
        join(owner.home, running.invite(), url=None, patience_s=20)
        owner.train(owner.options("wolf-a1"))
        running.release()
        owner.train(owner.options("bear-b2"))
        running.release()
        out = tmp_path / "release"
        run("pull", running.link(), "-o", str(out))
    shapes = {t.name: t.shape for t in owner.asked[0].tensors if t.name.startswith("embed")}
    scored = [h.values for h in owner.events if h.name == "scored"]

    verified = verify_folder(out)
    drawn = sample(out, ["photo of wolf-a1", "photo of bear-b2"], Drawing(steps=1), seeds=[0])
    found = score_release(
        owner.home,
        "wolf-a1",
        images=place / "images",
        base=place / "base",
        release=out,
        lambdas=(1.0,),
    ).score

    assert shapes == {"embed.text_encoder.0": (4 * 2, 48)}, "four places that read the prompt"
    assert "loss_merged" not in scored[0]
    assert scored[1]["loss_merged"] != scored[1]["loss_single"]
    assert found.loss_merged[1.0] != found.loss_single
    assert "layerwise/bear-b2.safetensors" in {f.name for f in verified.release.manifest.files}
    assert sorted(p.name for p in (out / "layerwise").iterdir()) == [
        *("bear-b2.safetensors", "wolf-a1.safetensors")
    ]
    assert not (out / "embeddings").exists()
    assert drawn.height > 2 * 160


def test_what_leaves_is_what_was_shown_and_nothing_of_the_images(owner: Owner) -> None:
    """The outbox is the list of all that left: manifest and chunks shown, no image or caption."""
    owner.train(replace(owner.options("bear-b2"), pictures=True))

    sent = _sent(owner.home)
    shown = {file.sha256 for file in owner.asked[0].files}
    folder = owner.home.run("bear-b2")
    blob, manifest = (folder / BLOB).read_bytes(), (folder / MANIFEST).read_bytes()
    (begin,) = [entry for entry in sent if str(entry["method"]).endswith("Begin")]
    chunks = {entry["chunk"] for entry in sent if "chunk" in entry}
    assert manifest.hex() in str(begin["body"])
    assert b'"pictures":1' in manifest, "the owner's yes is signed"
    assert chunks <= shown, "the blob is one chunk here"
    bodies = "".join(str(entry.get("body", "")) for entry in sent) + blob.hex()
    for image in (owner.place / "images").iterdir():
        assert image.read_bytes()[:64].hex() not in bodies
        assert image.name.encode().hex() not in bodies
    for word in ("fox", str(owner.place)):
        assert word.encode().hex() not in bodies


def test_a_second_run_of_a_finished_concept_sends_nothing(owner: Owner) -> None:
    """The receipt is shown again; no lease, no training, no upload."""
    owner.train(owner.options("lynx-c3"))
    before = len(_sent(owner.home))
    owner.events.clear()

    session = owner.train(owner.options("lynx-c3"))

    assert owner.names() == ["receipt"]
    assert session.phase == "receipted"
    assert len(_sent(owner.home)) == before


def test_a_withdrawn_concept_is_taught_anew_in_a_slot_of_its_own(owner: Owner) -> None:
    """Trained, withdrawn, trained: another key, fence and blob; the old files and receipts stay."""
    options = owner.options("anna-w7")
    first = owner.train(options)
    kept = {name: (owner.home.run("anna-w7") / name).read_bytes() for name in (BLOB, RECEIPT)}
    withdraw(owner.home, "anna-w7", ask=lambda _: True, patience_s=20)

    second = owner.train(options)

    assert second.phase == "receipted"
    assert second.counter > first.counter
    assert (second.slot, second.fence) != (first.slot, first.fence)
    aside = owner.home.run("anna-w7") / f"withdrawn-{first.slot}-{first.fence}"
    assert {name: (aside / name).read_bytes() for name in kept} == kept
    assert (aside / WITHDRAWAL_RECEIPT).is_file()
    (row,) = status_of(owner.home)["concepts"]
    assert (row["state"], row["withdrawal"], row["promise"]) == ("accepted", "", "kept")


class _Killed(Exception):
    """The process ends here."""


def _kill_at(name: str) -> Callable[[Happened], None]:
    def on_event(happened: Happened) -> None:
        if happened.name == name:
            raise _Killed

    return on_event


@pytest.mark.parametrize("at", ["leased", "trained", "scored", "uploading"])
def test_a_run_that_was_killed_goes_on_with_its_lease(at: str, owner: Owner) -> None:
    """Stopped at each phase: the same slot and fence, no step and no quantising done twice."""
    concept = f"{at}-d4"
    owner.on_event = _kill_at(at)
    with pytest.raises(_Killed):
        owner.train(owner.options(concept))
    before = load(owner.home.run(concept))
    assert before is not None
    blob = owner.home.run(concept) / BLOB
    packed = blob.read_bytes() if blob.exists() else b""
    leases = sum(str(entry["method"]).endswith("Lease") for entry in _sent(owner.home))
    owner.on_event = lambda _: None

    session = owner.train(owner.options(concept))

    assert session.phase == "receipted"
    assert session.request == before.request
    assert before.slot in (-1, session.slot)
    if packed:
        assert blob.read_bytes() == packed
    assert owner.steps() == 4, "a training that came to its end is not repeated"
    again = sum(str(entry["method"]).endswith("Lease") for entry in _sent(owner.home))
    assert again == leases + (at == "leased"), "the grant was not saved: the same lease is asked"


def test_a_process_that_was_killed_in_training_goes_on_from_its_save(owner: Owner) -> None:
    """SIGKILL in the middle of the training; the next process begins behind its last save."""
    settings = owner.home.folder / "long.toml"
    settings.write_text(SETTINGS.replace("steps = 4", "steps = 60") + "save_every_s = 0.0\n")
    command = [*COMMAND, "client", "train", "--concept", "otter-e5", "--class-noun", "fox"]
    command += ["--images", str(owner.place / "images"), "--base", str(owner.place / "base")]
    command += ["--config", str(settings), "--home", str(owner.home.folder), "--yes", "--json"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as child:
        assert child.stdout is not None
        reached = 0
        for line in child.stdout:
            reached = json.loads(line).get("step", 0)
            if reached >= 5:
                child.send_signal(signal.SIGKILL)
                break
        child.communicate()
    assert 5 <= reached < 60

    owner.train(replace(owner.options("otter-e5"), config=settings))

    (trained,) = [happened for happened in owner.events if happened.name == "trained"]
    assert int(str(trained.values["resumed_at"])) >= reached - 1
    assert owner.steps() <= 60 - reached + 1


def test_ctrl_c_saves_the_step_and_says_how_to_go_on(owner: Owner) -> None:
    """SIGINT in the middle of the training: exit code 1, three parts, and not a step done twice."""
    settings = owner.home.folder / "long.toml"
    settings.write_text(SETTINGS.replace("steps = 4", "steps = 60"))
    command = [*COMMAND, "client", "train", "--concept", "stoat-e6", "--class-noun", "fox"]
    command += ["--images", str(owner.place / "images"), "--base", str(owner.place / "base")]
    command += ["--config", str(settings), "--home", str(owner.home.folder), "--yes", "--json"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as child:
        assert child.stdout is not None
        lines = iter(child.stdout)
        reached = next(step for line in lines if (step := json.loads(line).get("step", 0)) >= 5)
        child.send_signal(signal.SIGINT)
        said = [json.loads(line) for line in lines]
    reached = max([reached, *(line.get("step", 0) for line in said)])
    assert child.returncode == 1
    assert said[-1]["error"]["code"] == "interrupted"
    assert said[-1]["error"]["what"] == f"stopped behind step {reached} of 60"
    assert "run the same command again" in said[-1]["error"]["fix"]

    owner.train(replace(owner.options("stoat-e6"), config=settings))

    (trained,) = [happened for happened in owner.events if happened.name == "trained"]
    assert trained.values["resumed_at"] == reached
    assert owner.steps() == 60 - reached


def test_a_training_that_outlasts_a_lease_is_refused_before_it(owner: Owner) -> None:
    """A hundred thousand steps of 1,024 passes: days are needed, one is allowed; no slot taken."""
    settings = owner.home.folder / "endless.toml"
    endless = "steps = 100000\naccumulation = 1024"
    settings.write_text(SETTINGS.replace("steps = 4", endless))

    with pytest.raises(OrthoFedError, match="70% of the 86400 s") as caught:
        owner.train(replace(owner.options("slug-g9"), config=settings))

    assert caught.value.code == "takes-too-long"
    assert "no slot was leased" in caught.value.why
    assert "Lease" not in str(_sent(owner.home))


def test_the_log_and_the_report_stay_at_home_after_the_receipt(owner: Owner) -> None:
    """The saves go, the log stays: every step, the scores, the bytes that left; none of it sent."""
    owner.train(owner.options("vole-e7"))

    folder = owner.home.run("vole-e7")
    page = (folder / "log" / "1" / "report.html").read_text("utf-8")
    assert not (folder / "training").exists()
    assert len((folder / "log" / "1" / "steps.jsonl").read_text().splitlines()) == 1 + 4
    assert list((folder / "log" / "1" / "tensorboard").glob("events.out.tfevents.*"))
    assert "sent, receipt kept" in page
    assert all(file.sha256 in page for file in owner.asked[0].files)
    assert "loss with this concept" in page
    (probed,) = [happened.values for happened in owner.events if happened.name == "probed"]
    assert float(str(probed["total_s"])) > 0
    assert probed["hold_s"] == 86400


def _cached(owner: Owner, more: str = "") -> Path:
    """Write settings with a cache on disk and class images, and return their file."""
    path = owner.home.folder / "cached.toml"
    prior = "prior_weight = 1.0\nprior_images = 4\nprior_steps = 2\n"
    path.write_text(f'{SETTINGS}cache = "disk"\n{prior}{more}')
    return path


def test_a_killed_training_finds_its_cache_and_packing_deletes_it(owner: Owner) -> None:
    """Nothing of the owner's stays in the cache; the class images do, for the next concept."""
    options = replace(owner.options("ibex-m1"), config=_cached(owner))
    cache = owner.home.run("ibex-m1") / "cache"

    def stop(happened: Happened) -> None:
        if happened.name == "step" and happened.values["step"] == 2:
            raise _Killed

    owner.on_event = stop
    with pytest.raises(_Killed):
        owner.train(options)
    files = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    seen = list[dict[str, int]]()

    def look(happened: Happened) -> None:
        if happened.name == "packing":
            seen.append({path.name: path.stat().st_mtime_ns for path in cache.iterdir()})
        if happened.name == "egress":
            seen.append({path.name: 0 for path in cache.parent.glob("cache*")})

    owner.on_event = look
    owner.train(options)

    assert len(files) == 4
    assert seen == [files, {}]
    assert len(list(owner.home.class_images.glob("*.safetensors"))) == 1


def test_a_cache_is_kept_for_who_asks_for_it(owner: Owner) -> None:
    """`keep_cache = true`: for another training from the same images."""
    options = owner.options("ibex-m2")

    owner.train(replace(options, config=_cached(owner, "keep_cache = true\n")))

    assert len(list((owner.home.run("ibex-m2") / "cache").glob("*.safetensors"))) == 2


def test_a_disk_too_small_for_the_cache_is_refused_before_a_lease(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk says 9,999 bytes: what is needed and what is free are named; no slot is taken."""
    full = shutil.disk_usage(owner.home.folder)._replace(free=9_999)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)

    with pytest.raises(OrthoFedError, match="bytes needed for the cache in") as caught:
        owner.train(replace(owner.options("ibex-m3"), config=_cached(owner)))

    assert "9999 free" in caught.value.what
    assert caught.value.code == "disk-too-small"
    assert "Lease" not in str(_sent(owner.home))


def test_an_owner_who_says_no_sends_nothing_and_is_asked_again(owner: Owner) -> None:
    """No manifest, no chunk; the next run asks about the same bytes and trains no step."""
    owner.answer = False
    with pytest.raises(InputError, match="were not approved") as caught:
        owner.train(owner.options("mole-f6"))
    assert caught.value.code == "egress-declined"
    sent = {str(entry["method"]).rpartition("/")[2] for entry in _sent(owner.home)}
    assert sent <= {"Join", "Lease", "Renew"}
    steps = owner.steps()

    owner.answer = True
    owner.train(owner.options("mole-f6"))

    assert owner.steps() == steps
    assert owner.asked[0] == owner.asked[1]


def test_the_wrong_base_is_refused_before_a_lease(owner: Owner, tmp_path: Path) -> None:
    """Both fingerprints are named; exit code 2; no slot is taken."""
    other = tiny_base(tmp_path / "other")
    with (other / "unet" / "config.json").open("a") as config:
        config.write("\n")

    with pytest.raises(InputError, match="fingerprint") as caught:
        owner.train(replace(owner.options("hare-g7"), base=other))

    assert caught.value.code == "wrong-base"
    assert caught.value.exit_code == 2
    assert "Lease" not in str(_sent(owner.home))


def test_bad_images_are_refused_before_a_lease(owner: Owner, tmp_path: Path) -> None:
    """An empty folder, and one with a broken file: named, exit code 2, no slot taken."""
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.mkdir()
    write_images(broken, 6)
    first = min(broken.glob("*.png"))
    first.write_bytes(first.read_bytes()[:50])

    for images, code in ((empty, "no-images"), (broken, "broken-image")):
        with pytest.raises(InputError) as caught:
            owner.train(replace(owner.options("hare-g8"), images=images))
        assert caught.value.code == code
    assert first.name in caught.value.what
    assert "Lease" not in str(_sent(owner.home))


def test_copies_of_an_image_are_said_before_a_lease(owner: Owner, tmp_path: Path) -> None:
    """A copy weighs twice, and a held-out one makes the score too good; the owner may go on."""
    images = write_images(tmp_path / "images", 6)
    first, *_, last = sorted(images.glob("*.png"))
    last.write_bytes(first.read_bytes())

    def stop(happened: Happened) -> None:
        if happened.name == "probed":
            raise TimeoutError

    owner.on_event = stop
    with pytest.raises(TimeoutError):
        owner.train(replace(owner.options("hare-g9"), images=images))

    said = [one.values["pairs"] for one in owner.events if one.name == "duplicates"]
    assert said == [[[first.name, last.name]]]


def test_a_bad_name_title_or_setting_is_refused_before_a_lease(
    owner: Owner, tmp_path: Path
) -> None:
    """Wrong usage is found at home."""
    settings = tmp_path / "bad.toml"
    settings.write_text("stepz = 4\n")
    good = owner.options("hare-g9")
    wrong = (
        replace(good, concept="../hare"),
        replace(good, triggers=("a b",)),
        replace(good, title="hare\nwith a line"),
        replace(good, config=settings),
        replace(good, steps=0),
        replace(good, licence="not an SPDX id!"),
        replace(good, vectors=9),
    )
    for options in wrong:
        with pytest.raises(InputError) as caught:
            owner.train(options)
        assert caught.value.exit_code == 2
    assert "Lease" not in str(_sent(owner.home))


def test_a_taken_name_is_refused_and_another_one_can_be_tried(
    owner: Owner, invite: str, place: Path, tmp_path: Path
) -> None:
    """Exit code 3 with a hint; the same concept with another trigger then gets a slot."""
    owner.train(owner.options("seal-h1"))
    other = Owner(place, Home.at(tmp_path / "other"))
    join(other.home, invite, url=None, patience_s=20)

    with pytest.raises(Refused) as caught:
        other.train(other.options("seal-h1"))

    assert caught.value.code == "name-taken"
    assert caught.value.exit_code == 3
    assert other.train(other.options("crab-h2")).phase == "receipted"


def test_a_contribution_that_is_refused_can_be_trained_anew_in_its_slot(
    owner: Owner, tmp_path: Path
) -> None:
    """T12: A outweighs the base: exit code 3, before an upload; better settings then pass."""
    wild = tmp_path / "wild.toml"
    wild.write_text(SETTINGS.replace("rate = 1e-4", "rate = 0.15\nclip_norm = 0.0"))

    with pytest.raises(ContributionRejected, match="spectral norm") as caught:
        owner.train(replace(owner.options("boar-l1"), config=wild))

    assert caught.value.exit_code == 3
    assert {entry["method"] for entry in _sent(owner.home)}.isdisjoint(_UPLOADING)
    refused = load(owner.home.run("boar-l1"))
    session = owner.train(owner.options("boar-l1"))
    assert refused is not None
    assert (session.phase, session.slot) == ("receipted", refused.slot)


def test_a_coordinator_that_is_gone_is_said_and_nothing_is_lost(
    owner: Owner, coordinator: Coordinator
) -> None:
    """Killed while the owner trains: training ends, the upload names the problem, a rerun sends."""

    def kill(happened: Happened) -> None:
        if happened.name == "egress":
            coordinator.kill()

    owner.on_event = kill
    try:
        with pytest.raises(Unreachable, match="gave no answer for 1 s") as caught:
            owner.train(owner.options("swan-i1"), patience_s=1)
    finally:
        coordinator.start()
    assert "goes on where it stopped" in caught.value.fix
    steps = owner.steps()
    owner.on_event = lambda _: None

    assert owner.train(owner.options("swan-i1")).phase == "receipted"
    assert owner.steps() == steps


def test_without_a_terminal_the_question_needs_a_yes(owner: Owner) -> None:
    """`--json` or a pipe: exit code 2 at once, before a minute of training is spent."""
    done = subprocess.run(
        [
            *COMMAND,
            *("client", "train", "--concept", "newt-j1", "--class-noun", "fox", "--json"),
            *("--images", str(owner.place / "images"), "--base", str(owner.place / "base")),
            *("--home", str(owner.home.folder)),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "option-missing"


def test_a_lease_that_went_to_somebody_else_is_lost_and_leased_anew(
    place: Path, tmp_path: Path
) -> None:
    """One slot, a TTL of 5 s: the first owner stops, the second takes the slot and fills it.

    The first is told so (exit code 3), its work is set aside; a third finds no free slot.
    """
    with Coordinator.found(
        tmp_path / "fed", place / "base", "--rank", "2", "--capacity", "1", "--ttl", "5"
    ) as narrow:
        invite = narrow.invite(uses=3)
        owners = [Owner(place, Home.at(tmp_path / f"home{k}")) for k in range(2)]
        for owner in owners:
            join(owner.home, invite, url=None, patience_s=20)
        first, second = owners
        first.on_event = _kill_at("trained")
        with pytest.raises(_Killed):
            first.train(first.options("goat-k1"))
        first.on_event = lambda _: None
        time.sleep(6)

        assert second.train(second.options("duck-k2")).phase == "receipted"
        with pytest.raises(LeaseLost, match="the slot of goat-k1 was lost") as caught:
            first.train(first.options("goat-k1"))

        assert caught.value.exit_code == 3
        session = load(first.home.run("goat-k1"))
        assert session is not None
        assert session.phase == "joined"
        assert list(first.home.run("goat-k1").glob("lost-1-*/training"))
        (row,) = status_of(first.home)["concepts"]
        assert row["why"]
        with pytest.raises(Refused) as refused:
            first.train(first.options("goat-k1"))
        assert refused.value.code == "no-free-slot"


def test_a_training_that_was_lost_goes_on_where_the_same_slot_is_leased_again(
    place: Path, tmp_path: Path
) -> None:
    """One slot: somebody else took it and gave it back; its block is the same, so no step is lost.

    The contribution is of the new fence, and its figures and log begin anew with it.
    """
    with Coordinator.found(
        tmp_path / "fed", place / "base", "--rank", "2", "--capacity", "1", "--ttl", "5"
    ) as narrow:
        invite = narrow.invite(uses=2)
        first = Owner(place, Home.at(tmp_path / "home"))
        join(first.home, invite, url=None, patience_s=20)
        first.on_event = _kill_at("trained")
        with pytest.raises(_Killed):
            first.train(first.options("goat-k1"))
        first.on_event = lambda _: None
        time.sleep(6)
        second = Member.joined(invite)
        second.give_back(second.lease("duck-k2"))
        with pytest.raises(LeaseLost):
            first.train(first.options("goat-k1"))
        first.events.clear()

        session = first.train(first.options("goat-k1"))

        assert (session.phase, session.slot, session.fence) == ("receipted", 0, 3)
        assert first.steps() == 0, "all four steps were taken back"
        (trained,) = [each for each in first.events if each.name == "trained"]
        assert trained.values["resumed_at"] == 4


def test_a_home_with_a_new_key_leases_with_it_and_finds_the_lease_it_asked_for_before(
    owner: Owner,
) -> None:
    """A lease is granted and the answer lost; the owner rotates; the same request finds it.

    The client key is the old master's and asks through the new member key; the next concept's is
    the new master's own.
    """
    stop = KeyboardInterrupt()

    def fall(happened: Happened) -> None:
        if happened.name == "leased":
            raise stop

    owner.on_event = fall
    with pytest.raises(KeyboardInterrupt):
        owner.train(owner.options("wolf-n1"))
    asked = load(owner.home.run("wolf-n1"))
    rotate(owner.home, patience_s=20)
    owner.on_event = lambda _: None

    first = owner.train(owner.options("wolf-n1"))
    second = owner.train(owner.options("wolf-n2"))

    assert asked is not None
    assert (asked.phase, asked.epoch) == ("joined", 0)
    assert (first.phase, first.request, first.epoch) == ("receipted", asked.request, 0)
    assert (second.phase, second.epoch, second.counter) == ("receipted", 1, 0)
