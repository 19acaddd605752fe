"""`orthofed client train` against a real coordinator: from images to a receipt, and what stays.

The base is the tiny one, trainings have a few steps. Not here: what is refused before a lease
(test_train_refused.py), what goes on after a break (test_train_resumed.py).
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from orthofed.client.drawing import Drawing
from orthofed.client.home import Home
from orthofed.client.join import join
from orthofed.client.release_score import score_release
from orthofed.client.sample import sample
from orthofed.client.state import BLOB, MANIFEST, RECEIPT, WITHDRAWAL_RECEIPT, load
from orthofed.client.status import status_of
from orthofed.client.verify import verify_folder
from orthofed.client.withdrawal import withdraw
from orthofed.core.errors import (
    ContributionRejected,
    InputError,
    Refused,
)
from orthofed.proto import methods

from .coordinator_process import Coordinator, run
from .owner_daemon import TRAINING
from .training_owner import TrainingOwner, sent_messages
from .training_owner import coordinator as coordinator  # noqa: PLC0414  # a fixture
from .training_owner import invite as invite  # noqa: PLC0414  # a fixture
from .training_owner import owner as owner  # noqa: PLC0414  # a fixture
from .training_owner import place as place  # noqa: PLC0414  # a fixture

pytestmark = pytest.mark.long

UPLOADING = {method.path for method in (methods.BEGIN, methods.PUT, methods.COMMIT)}


def test_from_images_to_a_receipt_and_a_score(
    owner: TrainingOwner, coordinator: Coordinator, tmp_path: Path
) -> None:
    """The whole way; then a release is pulled, verified and scored by the owner.

    The captions are the owner's own templates both times, so the same losses come out.
    """
    config = tmp_path / "own.toml"
    config.write_text(TRAINING + 'templates = ["{} on a red tree", "the house of {}"]\n')
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
    before = len(sent_messages(owner.home))
    words = ["--concept", "wolf-a1", "--images", str(owner.place / "images"), "--release", str(out)]
    words += ["--base", str(owner.place / "base"), "--home", str(owner.home.folder), "--json"]
    # A stacked LoRA is what a fusion is written like; this one answers as the release does.
    words += ["--fused", str(next((out / "lora").glob("*[0-9].safetensors")))]
    asks = run("client", "score", *words, "--send", check=False)
    told = json.loads(run("client", "score", *words, "--send", "--yes").stdout)
    table = json.loads(run("coordinator", "retention", str(coordinator.folder), "--json").stdout)
    (measured,) = [each["measured"] for each in table["concepts"] if each["concept"] == "wolf-a1"]

    assert asks.returncode == 2, "nobody was there to say yes"
    assert [str(each["method"]) for each in sent_messages(owner.home)[before:]] == [
        methods.SCORE.path
    ]
    assert (told["sent"], told["release"]) == (True, table["release"])
    assert told["loss_fused"] == pytest.approx(found.loss_merged[1.0], rel=1e-6)
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
        owner = TrainingOwner(place, Home.at(tmp_path / "home"))
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


def test_what_leaves_is_what_was_shown_and_nothing_of_the_images(owner: TrainingOwner) -> None:
    """The outbox is the list of all that left: manifest and chunks shown, no image or caption."""
    owner.train(replace(owner.options("bear-b2"), pictures=True))

    sent = sent_messages(owner.home)
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


def test_a_second_run_of_a_finished_concept_sends_nothing(owner: TrainingOwner) -> None:
    """The receipt is shown again; no lease, no training, no upload."""
    owner.train(owner.options("lynx-c3"))
    before = len(sent_messages(owner.home))
    owner.events.clear()

    session = owner.train(owner.options("lynx-c3"))

    assert owner.names() == ["receipt"]
    assert session.phase == "receipted"
    assert len(sent_messages(owner.home)) == before


def test_a_withdrawn_concept_is_taught_anew_in_a_slot_of_its_own(owner: TrainingOwner) -> None:
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


def test_the_log_and_the_report_stay_at_home_after_the_receipt(owner: TrainingOwner) -> None:
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


def test_an_owner_who_says_no_sends_nothing_and_is_asked_again(owner: TrainingOwner) -> None:
    """No manifest, no chunk; the next run asks about the same bytes and trains no step."""
    owner.answer = False
    with pytest.raises(InputError, match="were not approved") as caught:
        owner.train(owner.options("mole-f6"))
    assert caught.value.code == "egress-declined"
    sent = {str(entry["method"]).rpartition("/")[2] for entry in sent_messages(owner.home)}
    assert sent <= {"Join", "Lease", "Renew"}
    steps = owner.steps()

    owner.answer = True
    owner.train(owner.options("mole-f6"))

    assert owner.steps() == steps
    assert owner.asked[0] == owner.asked[1]


def test_a_taken_name_is_refused_and_another_one_can_be_tried(
    owner: TrainingOwner, invite: str, place: Path, tmp_path: Path
) -> None:
    """Exit code 3 with a hint; the same concept with another trigger then gets a slot."""
    owner.train(owner.options("seal-h1"))
    other = TrainingOwner(place, Home.at(tmp_path / "other"))
    join(other.home, invite, url=None, patience_s=20)

    with pytest.raises(Refused) as caught:
        other.train(other.options("seal-h1"))
    (told,) = status_of(other.home)["concepts"]

    assert (told["phase"], told["why"]) == ("joined", caught.value.what)
    assert caught.value.code == "name-taken"
    assert caught.value.exit_code == 3
    assert other.train(other.options("crab-h2")).phase == "receipted"


def test_a_contribution_that_is_refused_can_be_trained_anew_in_its_slot(
    owner: TrainingOwner, tmp_path: Path
) -> None:
    """T12: A outweighs the base: exit code 3, before an upload; better settings then pass."""
    wild = tmp_path / "wild.toml"
    wild.write_text(TRAINING.replace("rate = 1e-4", "rate = 0.15\nclip_norm = 0.0"))

    with pytest.raises(ContributionRejected, match="spectral norm") as caught:
        owner.train(replace(owner.options("boar-l1"), config=wild))

    assert caught.value.exit_code == 3
    assert {entry["method"] for entry in sent_messages(owner.home)}.isdisjoint(UPLOADING)
    refused = load(owner.home.run("boar-l1"))
    session = owner.train(owner.options("boar-l1"))
    assert refused is not None
    assert (session.phase, session.slot) == ("receipted", refused.slot)
