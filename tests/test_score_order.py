"""An order to score: figures that are kept leave by the owner's policy, once asked for or often."""

import json
from pathlib import Path

import pytest

from orthofed.client.outbox import read_record
from orthofed.client.score_order import score_order
from orthofed.client.state import MANIFEST, load
from orthofed.core.document import parse, sign
from orthofed.core.errors import InputError, Refused
from orthofed.proto import methods

from .coordinator_process import run
from .owner import Owner
from .serving import Running, founded, running

KEPT = {
    "v": 1,
    "release": 1,
    "loss_base": 0.09,
    "loss_single": 0.05,
    "loss_merged": 0.06,
    "retention": 0.75,
    "pictures": 3,
    "draws": 256,
}


@pytest.fixture
def fed(tmp_path):
    with running(founded(tmp_path)) as coordinator:
        yield coordinator


def owner_with_figures(fed: Running, tmp_path: Path) -> Owner:
    """Return an owner whose concept is released, and whose client has measured it before."""
    owner = Owner.joined(tmp_path / "home", fed.invite())
    owner.contribute("anna")
    fed.release()
    kept = owner.home.run("anna") / "scores" / "release-1.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps(KEPT))
    return owner


def ordered(owner: Owner, release: int = 1, *, send: bool) -> int:
    """Carry the order out; return how many messages with figures have left so far."""
    nowhere = Path("/nowhere")  # what is kept is not measured again
    score_order(
        *(owner.home, "anna", release),
        images=nowhere,
        base=nowhere,
        device="cpu",
        send=send,
        patience_s=20,
    )
    record = read_record(owner.home.folder / "outbox.jsonl")
    return [each.method for each in record.sent].count(methods.SCORE.path)


def test_figures_leave_by_policy_alone(fed, tmp_path):
    """Without it nothing; with it three losses and two counts, as often as it is carried out."""
    owner = owner_with_figures(fed, tmp_path)

    at_home = ordered(owner, send=False)
    before = fed.desk.ask("retention", {"release": 1})["concepts"][0]["measured"]
    sent, again = ordered(owner, send=True), ordered(owner, send=True)
    (row,) = fed.desk.ask("retention", {"release": 1})["concepts"]

    assert (at_home, before) == (0, None)
    assert (sent, again) == (1, 2)
    assert row["retention"] == 0.75
    assert (row["measured"]["base_millionths"], row["measured"]["pictures"]) == (90_000, 3)


def test_a_release_without_the_concept_is_refused_and_the_figures_stay_kept(fed, tmp_path):
    """The coordinator's word; nothing of the home is lost by it."""
    owner = owner_with_figures(fed, tmp_path)
    kept = owner.home.run("anna") / "scores" / "release-2.json"
    kept.write_text(json.dumps(KEPT | {"release": 2}))

    with pytest.raises(Refused) as refused:
        ordered(owner, 2, send=True)

    assert refused.value.code == "not-found"
    assert json.loads(kept.read_text())["loss_merged"] == 0.06


def test_figures_of_a_concept_with_a_dp_claim_stay_at_home(fed, tmp_path):
    """Its signed (epsilon, delta) is of all that was sent; a mean without noise is not in it."""
    owner = owner_with_figures(fed, tmp_path)
    folder = owner.home.run("anna")
    session = load(folder)
    assert session is not None
    body = parse((folder / MANIFEST).read_bytes(), kind="contribution").body
    claimed = sign("contribution", {**body, "dp": {"v": 1}}, [owner.key(session)]).to_bytes()
    (folder / MANIFEST).write_bytes(claimed)
    score_of = ["--concept", "anna", "--images", "i", "--base", "b", "--release", "r"]

    with pytest.raises(InputError) as ordered_to:
        ordered(owner, send=True)
    typed = run(
        *("client", "score", *score_of, "--home", str(owner.home.folder), "--send", "--yes"),
        check=False,
    )

    assert ordered_to.value.code == "dp-figures"
    assert typed.returncode == 2
    assert "differential privacy" in typed.stderr
    assert ordered(owner, send=False) == 0
