"""Which images a pass sees: buckets in proportion, every image once an epoch, the same again."""

from collections import Counter
from dataclasses import replace
from typing import Any

import torch

from orthofed.client.batches import Batches, Bucket
from orthofed.client.families.framing import Framing


def _buckets() -> list[Bucket]:
    return [_bucket("wide", (6, 1, 2, 4)), _bucket("tall", (3, 1, 4, 2))]


def _bucket(name: str, shape: tuple[int, ...]) -> Bucket:
    framings = tuple(Framing((n, n), (0, 0), (shape[2], shape[3])) for n in range(shape[0]))
    return Bucket(torch.zeros(shape), tuple(f"{name} {n}" for n in range(shape[0])), framings)


def _batches(*, passes: int = 12, batch: int = 3, **options: Any) -> Batches:
    return Batches.of(_buckets(), passes=passes, batch=batch, num_timesteps=100, seed=5, **options)


def test_every_image_is_seen_equally_often_and_no_pass_mixes_shapes() -> None:
    """Nine images, three a pass, twelve passes: each image four times."""
    batches = _batches()

    seen = [batches.at(number) for number in range(12)]

    assert set(Counter(text for one in seen for text in one.captions).values()) == {4}
    for one in seen:
        assert len({text.split()[0] for text in one.captions}) == 1
        assert one.noise.shape == one.latents.shape
        numbers = [int(text.split()[1]) for text in one.captions]
        assert [framing.original[0] for framing in one.framings] == numbers


def test_the_shapes_take_turns_in_proportion() -> None:
    """After any number of passes each bucket is within one of its share."""
    batches = _batches(passes=60)

    for passes in range(1, 61):
        wide = sum(index == 0 for index, _ in batches.turns[:passes])
        assert abs(wide - passes * 6 / 9) < 1


def test_a_pass_is_the_same_whenever_it_is_asked_for() -> None:
    """Nothing is kept between passes: a resumed run sees what an uninterrupted one saw."""
    first, again = _batches().at(7), _batches(passes=40).at(7)

    assert first.captions == again.captions
    assert torch.equal(first.noise, again.noise)
    assert torch.equal(first.timesteps, again.timesteps)


def test_captions_are_dropped_as_often_as_asked() -> None:
    """Half of them; none by default, all with 1."""
    dropped = _batches(passes=400, caption_dropout=0.5)

    empty = sum(text == "" for number in range(400) for text in dropped.at(number).captions)

    assert 500 < empty < 700
    assert not any(text == "" for number in range(12) for text in _batches().at(number).captions)
    assert _batches(caption_dropout=1.0).at(0).captions == [""] * 3


def test_tags_are_shuffled_behind_those_that_stay() -> None:
    """Every order comes up, the first tag stays, and a pass has the same one when asked again."""
    tagged = tuple(f"photo of {{}} {n}, red, on a tree, wide" for n in range(6))
    bucket = replace(_bucket("wide", (6, 1, 2, 4)), captions=tagged)
    plan: dict[str, Any] = {"passes": 60, "batch": 3, "num_timesteps": 100, "seed": 5}
    batches = Batches.of([bucket], **plan, keep_tags=1)

    said = [text for number in range(60) for text in batches.at(number).captions]

    assert {tuple(sorted(text.split(", ")[1:])) for text in said} == {("on a tree", "red", "wide")}
    assert len({text.partition(", ")[2] for text in said}) == 6
    assert all(text.startswith("photo of {} ") for text in said)
    assert batches.at(7).captions == Batches.of([bucket], **plan, keep_tags=1).at(7).captions
    plain = Batches.of([bucket], **plan).at(7)
    assert torch.equal(plain.noise, batches.at(7).noise)
    assert set(plain.captions) < set(tagged)


def test_the_order_of_tags_decides_nothing_else() -> None:
    """With shuffled tags the same captions are dropped, and noise and timesteps are the same."""
    tagged = tuple(f"photo of {{}} {n}, red, on a tree, wide" for n in range(6))
    bucket = replace(_bucket("wide", (6, 1, 2, 4)), captions=tagged)
    plan: dict[str, Any] = {"passes": 40, "batch": 3, "num_timesteps": 100, "seed": 5}
    plain, shuffled = (
        [Batches.of([bucket], **plan, caption_dropout=0.5, keep_tags=keep).at(n) for n in range(40)]
        for keep in (None, 1)
    )

    for one, other in zip(plain, shuffled, strict=True):
        assert [not text for text in one.captions] == [not text for text in other.captions]
        assert torch.equal(one.noise, other.noise)
        assert torch.equal(one.timesteps, other.timesteps)


def test_the_noise_offset_shifts_whole_channels() -> None:
    """The mean of a channel varies by the offset beside the noise's own."""
    plain, shifted = _batches(passes=200), _batches(passes=200, noise_offset=1.0)

    means = torch.cat([plain.at(n).noise.mean((2, 3)) for n in range(200)])
    moved = torch.cat([shifted.at(n).noise.mean((2, 3)) for n in range(200)])

    assert means.std() < 0.45
    assert moved.std() > 0.9
