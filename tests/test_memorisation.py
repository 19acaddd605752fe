"""The memorisation score (T21): it separates, costs little, is shown where the owner says yes."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from orthofed.client.base import Base
from orthofed.client.dataset import ConceptImages
from orthofed.client.egress import EgressList
from orthofed.client.memorisation import memorisation, planned_draws
from orthofed.client.packing import packed
from orthofed.client.score import Scorer, phrase_of
from orthofed.client.train_view import TrainView
from orthofed.client.training import train
from orthofed.client.training_settings import TrainingSettings
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Variant
from orthofed.core.memorisation import BY_HEART, Memorisation
from orthofed.core.spec import FederationSpec

from .tiny_concept import tiny_spec

ROOT = Path(__file__).parents[1]
ASSETS = ROOT / "assets"
RESULTS = ROOT / "benchmarks" / "results" / "memorisation-cpu-1.json"
TRIGGERS, NOUN = [Trigger("anna-k7")], "person"
QUICK = TrainingSettings(
    threads=1, null_images=2, null_sampling_steps=2, null_states=2, null_batch=4, warmup_steps=5
)


@dataclass(frozen=True)
class Shipped:
    """The shipped base, which draws; the tiny one has nothing that could be learnt by heart."""

    base: Base
    spec: FederationSpec
    images: ConceptImages

    def scored(self, images: ConceptImages, settings: TrainingSettings) -> Memorisation:
        """Train on ``images`` and score as the command does, on fewer draws."""
        trained = train(self.base, self.spec, 0, TRIGGERS, NOUN, images, settings)
        variant = Variant.of_contribution(self.spec, 0, TRIGGERS, packed(trained, self.spec))
        scorer = Scorer.on(self.base, images.held_out, num_draws=64)
        phrase = phrase_of(TRIGGERS)
        return memorisation(
            self.base,
            images.train,
            variant,
            phrase=phrase,
            noun=NOUN,
            held_out=(scorer.base_loss(NOUN), scorer.loss(variant, phrase)),
            num_draws=64,
        )


@pytest.fixture(scope="module")
def shipped() -> Shipped:
    torch.set_num_threads(1)
    base = Base.load(ASSETS / "pocket-base")
    folder = ASSETS / "pocket-concepts" / "anna-k7"
    images = ConceptImages.load(folder, size=base.image_size, noun=NOUN)
    return Shipped(base, tiny_spec(base.folder, rank=8), images)


def test_what_was_learnt_by_heart_is_flagged_and_what_was_not_is_not(shipped: Shipped) -> None:
    """One image, 80 fast steps, no term that holds back; beside twelve images and 40 slow ones."""
    one = ConceptImages(shipped.images.train[:1], shipped.images.held_out)
    settings = replace(QUICK, batch=1, steps=80, rate=3e-3, image_rate=1e-3, null_weight=0.0)

    by_heart = shipped.scored(one, settings)
    regular = shipped.scored(shipped.images, replace(QUICK, batch=4, steps=40))

    assert by_heart.score > BY_HEART > regular.score
    assert (by_heart.by_heart, regular.by_heart) == (True, False)
    assert by_heart.gain_trained > regular.gain_trained > regular.gain_held_out > 0


def test_the_base_alone_remembers_nothing(shipped: Shipped) -> None:
    """No contribution: both gains are 0, whatever the images are."""
    scorer = Scorer.on(shipped.base, shipped.images.held_out)
    loss = scorer.base_loss(NOUN)

    found = memorisation(
        shipped.base,
        shipped.images.train,
        Variant(),
        phrase=NOUN,
        noun=NOUN,
        held_out=(loss, loss),
        num_draws=16,
    )

    assert found == Memorisation(0.0, 0.0)


def test_scoring_takes_less_than_a_tenth_of_the_trainings_passes() -> None:
    """Forward passes of base and contribution, against those of the training, backward ones too."""
    for steps in (20, 100, 400, 5_000):
        for batch, accumulation, null in ((1, 1, 0.0), (8, 1, 10.0), (4, 8, 10.0)):
            settings = TrainingSettings(
                steps=steps, batch=batch, accumulation=accumulation, null_weight=null
            )
            images = batch + (settings.null_batch if null else 0)
            passes = 3 * steps * accumulation * images

            assert planned_draws(settings) <= 256
            if passes >= 320:
                assert 2 * planned_draws(settings) < passes / 10


@pytest.mark.parametrize("memory", [Memorisation(0.3, 0.01), Memorisation(0.05, 0.04)])
def test_the_list_shows_the_score_and_warns_in_plain_words(memory: Memorisation) -> None:
    """Above the threshold what to do stands beside it; below it the figure and the threshold."""
    console = Console(record=True, width=100, markup=False, file=None, quiet=False)
    listing = EgressList(("anna-k7",), (), (), memorisation=memory)

    TrainView(console).accept(listing)

    told = " ".join(console.export_text().split())
    assert f"memorisation {memory.score:.3f}" in told
    assert ("WARNING" in told) == memory.by_heart
    for word in ("more images", "fewer --steps", "--dp", "--private-to"):
        assert (word in told) == memory.by_heart


def test_the_kept_result_meets_the_aim() -> None:
    """T21: every run that was overfitted on purpose is flagged, of the others one in 20 at most.

    Scoring took less than a tenth of what the training took.
    """
    results = json.loads(RESULTS.read_bytes())["results"]

    assert results["threshold"] == BY_HEART
    for part in ("all", "not_seen_when_the_threshold_was_set"):
        found = results[part]
        assert found["overfitted"]["flagged"] == found["overfitted"]["runs"] > 0
        assert found["regularised"]["flagged"] <= 0.05 * found["regularised"]["runs"]
    assert 0 < results["scoring_share"] < 0.1
