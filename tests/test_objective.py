"""The weighted error: min-SNR against its formula, masks against hand-made errors."""

import pytest
import torch

from orthofed.client.objective import image_losses, snr_weights


@pytest.mark.parametrize("velocity", [False, True])
def test_min_snr_is_that_of_its_paper(*, velocity: bool) -> None:
    """ArXiv 2303.09556, section 3.4, at signal-to-noise ratios of 9, 1 and 1/9; gamma 5."""
    alpha = torch.tensor([0.9, 0.5, 0.1])

    weights = snr_weights(alpha, 5.0, velocity=velocity)

    expected = [5 / 10, 1 / 2, (1 / 9) / (10 / 9)] if velocity else [5 / 9, 1.0, 1.0]
    assert torch.allclose(weights, torch.tensor(expected))
    assert torch.equal(snr_weights(alpha, 0.0, velocity=velocity), torch.ones(3))


def test_weights_and_masks_count_what_they_say() -> None:
    """An error outside the mask does not count; inside it counts as if it were everywhere."""
    target = torch.zeros(2, 1, 2, 2)
    answer = torch.tensor([[[[3.0, 0.0], [0.0, 0.0]]], [[[0.0, 0.0], [0.0, 2.0]]]])
    first = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).expand(2, 1, 2, 2)
    ones = torch.ones(2)

    assert image_losses(answer, target, weights=ones).mean().item() == pytest.approx(
        (9 / 4 + 1) / 2
    )
    assert image_losses(answer, target, weights=ones, masks=first).mean().item() == pytest.approx(
        9 / 2
    )
    one = image_losses(answer, target, weights=torch.tensor([0.0, 2.0])).mean()
    assert one.item() == pytest.approx(1.0)
    assert (
        image_losses(answer, target, weights=ones, masks=torch.zeros(2, 1, 2, 2)).mean().item() == 0
    )
