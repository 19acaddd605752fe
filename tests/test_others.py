"""A training among the other concepts of a release: what the base is meanwhile, where it starts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from orthofed.client.checkpoint import TrainingSaves
from orthofed.client.earlier import Earlier
from orthofed.client.others import Others
from orthofed.client.packing import packed
from orthofed.client.trained import Trained
from orthofed.client.training import identity_of, train
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Variant
from orthofed.core.errors import InputError

from .tiny_concept import NOUN, SETTINGS, Bench, bench


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Bench:
    return bench(tmp_path_factory.mktemp("others"))


@pytest.fixture(scope="module")
def own(tiny: Bench) -> Variant:
    return variant(tiny, 0, "anna-k7")


@pytest.fixture(scope="module")
def others(tiny: Bench) -> Others:
    parts = [variant(tiny, 1, "bodo-x4", seed=3), variant(tiny, 2, "cleo-m6", seed=4)]
    return Others(Variant.sum_of([replace(part, lambda_=0.5) for part in parts]))


def variant(tiny: Bench, slot: int, name: str, **changes) -> Variant:
    tensors = packed(tiny.train(slot, name, **changes), tiny.spec)
    return Variant.of_contribution(tiny.spec, slot, [Trigger(name)], tensors)


def weights(tiny: Bench) -> dict[str, torch.Tensor]:
    paths = [layer.path for layer in tiny.spec.layers]
    return {path: tiny.base.layer(path).weight.detach().clone() for path in paths}


def further(
    tiny: Bench, own: Variant, others: Others, *, saves=None, on_step=None, **changes
) -> Trained:
    """Train slot 0 on from ``own`` among ``others``."""
    earlier = Earlier(own, 0.5)
    settings = replace(SETTINGS, **changes)
    spec = others.spec_for(tiny.spec, own)
    told = (spec, 0, [Trigger("anna-k7")], NOUN, tiny.images, settings)
    with others.folded(tiny.base):
        return train(
            tiny.base,
            *told,
            saves=None if saves is None else TrainingSaves(saves, identity_of(*told)),
            on_step=on_step,
            residuals=earlier.adapter,
            vectors=earlier.vectors(tiny.base),
        )


def test_inside_the_base_is_the_release_without_the_concept(tiny, others):
    """W + sum of lambda A B^T, layer by layer; after it the very bytes of before."""
    before = weights(tiny)
    with others.folded(tiny.base):
        for path, weight in weights(tiny).items():
            residual = others.variant.residuals[path]
            whole = before[path].double().numpy().reshape(weight.shape[0], -1)
            whole = whole + residual.up.astype(np.float64) @ residual.down.astype(np.float64)
            np.testing.assert_allclose(
                weight.double().numpy().reshape(whole.shape), whole, rtol=0, atol=1e-6
            )
            assert not torch.equal(weight, before[path])

    assert all(torch.equal(weight, before[path]) for path, weight in weights(tiny).items())


def test_a_training_that_fails_leaves_the_base_as_it_was(tiny, own, others):
    """An exception between two steps."""
    before = weights(tiny)

    def stop(_step) -> None:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        further(tiny, own, others, on_step=stop)

    assert all(torch.equal(weight, before[path]) for path, weight in weights(tiny).items())


def test_it_starts_from_what_was_sent(tiny, own, others):
    """With rates of 0 nothing moves: A and vectors come back as the integers that were sent."""
    trained = further(tiny, own, others, rate=0.0, image_rate=0.0, token_rate=0.0, steps=1)

    for path, a in trained.a.items():
        np.testing.assert_array_equal(a, own.residuals[path].up)
    rows = own.vectors["anna-k7"]
    for name, sent in rows.items():
        np.testing.assert_array_equal(trained.embeddings[name, 0], sent)


def test_the_others_change_what_is_learnt(tiny, own, others):
    """The same start, seed and images beside nothing and beside others: another A."""
    alone = further(tiny, own, Others(Variant.sum_of([replace(own, lambda_=0.0)])))
    among = further(tiny, own, others)

    assert any((alone.a[path] != among.a[path]).any() for path in among.a)
    assert any((among.a[path] != own.residuals[path].up).any() for path in among.a)


def test_a_round_goes_on_with_the_same_bits(tiny, own, others, tmp_path):
    """Stopped after step 3 and started again: A as if it had never been stopped (R5)."""
    whole = further(tiny, own, others)

    def stop(step) -> None:
        if step.number == 3:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        further(tiny, own, others, saves=tmp_path, on_step=stop)
    resumed = further(tiny, own, others, saves=tmp_path)

    assert resumed.resumed_at == 3
    for path, a in whole.a.items():
        np.testing.assert_array_equal(resumed.a[path], a)


def test_a_round_is_another_run_than_the_training_before(tiny, own, others):
    """Saves and caches of the first training, or of a round among others, are not taken."""
    bare = Others(Variant.sum_of([replace(own, lambda_=0.0)]))
    specs = [tiny.spec, others.spec_for(tiny.spec, own), bare.spec_for(tiny.spec, own)]
    specs.append(others.spec_for(tiny.spec, others.variant))

    assert len({spec.id for spec in specs}) == 4
    assert len({spec.base.fingerprint for spec in specs}) == 4


def test_vectors_of_other_triggers_are_refused(tiny, own, others):
    """Two vectors where one was leased."""
    with pytest.raises(InputError) as refused, others.folded(tiny.base):
        train(
            tiny.base,
            tiny.spec,
            0,
            [Trigger("anna-k7", 3)],
            NOUN,
            tiny.images,
            SETTINGS,
            vectors=Earlier(own, 1.0).vectors(tiny.base),
        )

    assert refused.value.code == "vectors-do-not-fit"
