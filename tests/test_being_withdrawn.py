"""A concept whose withdrawal is on its way is not taught anew: the last word comes first."""

from pathlib import Path

import pytest

from orthofed.client import session as flow
from orthofed.client.packed_contribution import sha256
from orthofed.client.state import WITHDRAWAL, load, save
from orthofed.client.train_command import train_concept
from orthofed.client.train_options import TrainOptions
from orthofed.core.errors import Refused

from .owner import PATIENCE_S, Owner
from .serving import founded, running


def test_a_concept_whose_withdrawal_is_on_its_way_is_not_taught_anew(tmp_path: Path) -> None:
    """The word is signed, no receipt yet: training says what to do first and changes nothing."""
    with running(founded(tmp_path)) as coordinator:
        owner = Owner.joined(tmp_path / "home", coordinator.invite())
        session = owner.contribute("anna")
        folder = owner.home.run(session.concept)
        (folder / WITHDRAWAL).write_bytes(b"the signed word")
        asked, _ = flow.step(session, flow.Asked(sha256(b"the signed word")))
        save(folder, asked)
        options = TrainOptions("anna", "person", images=tmp_path, base=tmp_path)

        with pytest.raises(Refused) as refused:
            train_concept(
                owner.home,
                options,
                report=lambda _: None,
                ask=lambda _: True,
                patience_s=PATIENCE_S,
            )

    assert refused.value.code == "being-withdrawn"
    assert load(folder) == asked
