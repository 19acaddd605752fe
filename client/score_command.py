"""The command `orthofed client score`: what a release keeps of a concept, and the way to send it.

Nothing slow is imported before it runs. Law: without ``--send`` nothing leaves; with it the very
numbers that leave are shown first, and the owner says yes. Not here: how the losses are measured
(release_score.py), what a message may hold (allowed.py).
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .command_line import BaseFolder, Device, HomeOption, Json, Patience, Yes, finite

if TYPE_CHECKING:
    from ..proto.wire import ScoreRequest
    from .home import Home
    from .release_score import ReleaseScore

SCORE_EXAMPLE: Final = (
    "Example: orthofed client score --concept anna-k7 --images photos --base base"
    " --release release-1"
)


def score(  # noqa: PLR0913, PLR0917  # what a person chooses
    concept: Annotated[str, typer.Option(help="Name of your concept.")],
    images: Annotated[Path, typer.Option(help="Folder of the images it was taught from.")],
    base: BaseFolder,
    release: Annotated[Path, typer.Option(help="Folder that orthofed pull made.")],
    lambda_: Annotated[
        list[float] | None,
        typer.Option("--lambda", min=0, max=2, callback=finite, help="Merge weight; repeatable."),
    ] = None,
    fused: Annotated[
        Path | None,
        typer.Option(help="What orthofed fuse made of the release: score it too."),
    ] = None,
    device: Device = None,
    send: Annotated[
        bool, typer.Option("--send", help="Send the losses to the operator, as the list says.")
    ] = False,
    yes: Yes = False,
    home: HomeOption = None,
    as_json: Json = False,
    patience_s: Patience = 120,
) -> None:
    """Show what a release keeps of your concept, from your held-out images."""
    from .asking import check_somebody_answers
    from .home import Home
    from .release_score import score_release
    from .send_score import check_may_leave, figures_of
    from .state import MANIFEST

    if send:
        check_somebody_answers(yes=yes, as_json=as_json)
    lambdas = tuple(dict.fromkeys(lambda_ or [1.0]))
    place = Home.at(home)
    if send and (place.run(concept) / MANIFEST).is_file():  # else there is nothing to score
        check_may_leave(place.run(concept))
    found = score_release(
        place,
        concept,
        images=images,
        base=base,
        release=release,
        lambdas=lambdas,
        device=device,
        as_merged=send,
        fused=fused,
    )
    if not as_json:
        _print(found, lambdas)
    said = figures_of(found) if send else None
    is_sent = said is not None and _send(place, said, yes=yes, patience_s=patience_s)
    if as_json:
        print(json.dumps({**_facts(found, lambdas), "sent": is_sent}))


def _facts(found: "ReleaseScore", lambdas: tuple[float, ...]) -> dict[str, object]:
    score = found.score
    merged = {x: (score.loss_merged[x], score.retention(x)) for x in lambdas}
    fused = {} if score.loss_fused is None else {"loss_fused": score.loss_fused}
    return {
        "schema": "orthofed.score/1",
        "concept": found.session.concept,
        "slot": found.session.slot,
        "release": found.n,
        "loss_base": score.loss_base,
        "loss_single": score.loss_single,
        "loss_merged": merged[lambdas[0]][0],
        "retention": merged[lambdas[0]][1],
        "by_lambda": {
            str(x): {"loss_merged": loss, "retention": kept} for x, (loss, kept) in merged.items()
        },
        **fused,
    }


def _print(found: "ReleaseScore", lambdas: tuple[float, ...]) -> None:
    score = found.score
    print(f"base    loss {score.loss_base:.5f}")
    print(f"single  loss {score.loss_single:.5f}")
    for x in lambdas:
        kept = score.retention(x)
        print(f"merged  loss {score.loss_merged[x]:.5f}  retention {kept:.3f}  at lambda {x:g}")
    if score.loss_fused is not None:
        kept = score.kept(score.loss_fused)
        print(f"fused   loss {score.loss_fused:.5f}  retention {kept:.3f}")


def _send(home: "Home", said: "ScoreRequest", *, yes: bool, patience_s: float) -> bool:
    """Show what leaves, ask, and send it; return whether it went."""
    from .asking import says_yes
    from .home_channel import home_channel
    from .masters import Masters
    from .send_score import send_score

    losses = (said.base_millionths, said.single_millionths, said.merged_millionths)
    base, single, merged = (f"{loss / 1e6:.6f}" for loss in losses)
    print(
        f"leaves this machine: {said.concept}, release {said.release}: base {base}, single"
        f" {single}, merged {merged}, over {said.num_pictures} images and {said.num_draws} draws",
        file=sys.stderr,
    )
    if not (yes or says_yes("Send these numbers?")):
        return False
    with home.lock(), home_channel(home, patience_s=patience_s) as channel:
        send_score(channel, Masters(home).newest().member(home.membership().log), said)
    print("sent", file=sys.stderr)
    return True
