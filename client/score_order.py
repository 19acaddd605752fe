"""Carries out an order to score: one concept in one release, on its owner's held-out images.

    pull what scoring reads of release n, trusted -> score beside the contribution -> figures kept
                                                                                   -> figures sent
    home/runs/<concept>/scores/release-<n>.json    loss_base, loss_single, loss_merged, retention,
                                                   and over how many pictures and draws

Law: the figures leave only by their owner's written policy, and then through the egress gate
(send_score.py); else they stay at home. Once they are kept, the same order computes nothing again,
and sends the same numbers. Source: flower.md 6, design.md decision 8. Not here: the losses
(score.py).
"""

import json
import shutil
from pathlib import Path

from ..core.metrics import retention
from .home import Home, write_whole
from .home_channel import home_channel
from .masters import Masters
from .owner_scores import fetch_scored
from .release_score import score_trusted
from .seen_heads import SeenHeads
from .send_score import check_may_leave, figures, send_score


def score_order(
    home: Home,
    concept: str,
    release: int,
    *,
    images: Path,
    base: Path,
    device: str | None,
    send: bool,
    patience_s: float,
) -> Path:
    """Return the file with the figures of ``concept`` in ``release``; ``send`` them too.

    Raises InputError: it was not packed here, base or images are bad, or its figures may not leave.
    Raises Refused: there is no such release, or it does not hold the concept. Raises Unreachable:
    no answer; ask later.
    """
    kept = home.run(concept) / "scores" / f"release-{release}.json"
    if send:
        check_may_leave(home.run(concept))
    with home.lock(), home_channel(home, patience_s=patience_s) as channel:
        log = home.membership().log
        if not kept.exists():
            folder = home.run(concept) / "ordered-release"
            fetch_scored(channel, log, folder, SeenHeads(home.folder), release)
            write_whole(
                kept, _measured(home, concept, release, folder, images, base=base, device=device)
            )
            shutil.rmtree(folder, ignore_errors=True)
        if send:
            found = json.loads(kept.read_bytes())
            said = figures(
                concept,
                release,
                base=found["loss_base"],
                single=found["loss_single"],
                merged=found["loss_merged"],
                pictures=found["pictures"],
                draws=found["draws"],
            )
            send_score(channel, Masters(home).newest().member(log), said)
    return kept


def _measured(  # what the two above know
    home: Home,
    concept: str,
    release: int,
    folder: Path,
    images: Path,
    *,
    base: Path,
    device: str | None,
) -> bytes:
    """Return the figures as they are kept; merged is the release as it was merged."""
    found = score_trusted(
        home,
        concept,
        release,
        images=images,
        base=base,
        release=folder,
        lambdas=(),
        device=device,
        as_merged=True,
    ).score
    if found.loss_released is None:
        raise AssertionError("measured as merged")
    figures_at_home = {
        "v": 1,
        "release": release,
        "loss_base": found.loss_base,
        "loss_single": found.loss_single,
        "loss_merged": found.loss_released,
        "retention": retention(found.loss_base, found.loss_single, found.loss_released)
        if found.loss_base > found.loss_single
        else None,
        "pictures": found.num_images,
        "draws": found.num_draws,
    }
    return json.dumps(figures_at_home).encode()
