"""Carries out an order to score: one concept in one release, on its owner's held-out images.

    pull what scoring reads of release n, trusted -> score beside the contribution -> figures kept

    home/runs/<concept>/scores/release-<n>.json    loss_base, loss_single, loss_merged, retention

Law: the figures stay at home; the wire has no call for them. Once they are kept, the same order
computes nothing again. Source: flower.md 6, design.md decision 8; the score itself is score.py's.
"""

import json
import shutil
from pathlib import Path

from .home import Home, write_whole
from .home_channel import home_channel
from .owner_scores import fetch_scored
from .score_command import score_trusted
from .seen_heads import SeenHeads


def score_order(
    home: Home,
    concept: str,
    release: int,
    *,
    images: Path,
    base: Path,
    device: str | None,
    patience_s: float,
) -> Path:
    """Return the file with the figures of ``concept`` in ``release``.

    Raises InputError: it was not packed here, or base or images are bad. Raises Refused: there is
    no such release. Raises Unreachable: no answer; ask again later.
    """
    kept = home.run(concept) / "scores" / f"release-{release}.json"
    if kept.exists():
        return kept
    folder = home.run(concept) / "ordered-release"
    with home.lock():
        member = home.membership()
        with home_channel(home, patience_s=patience_s) as channel:
            fetch_scored(channel, member.log, folder, SeenHeads(home.folder), release)
        _, found = score_trusted(
            home, concept, images=images, base=base, release=folder, lambdas=(1.0,), device=device
        )
        figures = {
            "v": 1,
            "release": release,
            "loss_base": found.loss_base,
            "loss_single": found.loss_single,
            "loss_merged": found.loss_merged[1.0],
            "retention": found.retention(1.0),
        }
        write_whole(kept, json.dumps(figures).encode())
        shutil.rmtree(folder, ignore_errors=True)
    return kept
