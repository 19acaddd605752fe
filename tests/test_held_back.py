"""What was learnt by heart, or never scored, does not leave by a yes said beforehand."""

import json

import pytest

from orthofed.client.state import MANIFEST
from orthofed.core.errors import InputError
from orthofed.proto import methods

from .coordinator_process import run
from .training_owner import TrainingOwner, sent_messages
from .training_owner import coordinator as coordinator  # noqa: PLC0414  # a fixture
from .training_owner import invite as invite  # noqa: PLC0414  # a fixture
from .training_owner import owner as owner  # noqa: PLC0414  # a fixture
from .training_owner import place as place  # noqa: PLC0414  # a fixture

UPLOADING = {method.path for method in (methods.BEGIN, methods.PUT, methods.COMMIT)}


def test_yes_is_not_enough_for_what_was_learnt_by_heart(owner: TrainingOwner) -> None:
    """Packed; --yes holds it, as text and as JSON; approved by hand it is sent as it is.

    The tiny base learns nothing by heart, so the figure that is kept beside it is raised. Without
    any figure it cannot even be approved.
    """
    options = owner.options("anna-h1")
    owner.answer = False
    with pytest.raises(InputError, match="were not sent"):
        owner.train(options)
    folder = owner.home.run("anna-h1")
    packed, kept = (folder / MANIFEST).read_bytes(), folder / "scores.json"
    figures = json.loads(kept.read_bytes())
    raised = {"gain_trained": 0.3, "gain_held_out": 0.1, "memorisation": 0.2}
    at_home = ("--home", str(owner.home.folder))
    words = ("client", "train", "--concept", "anna-h1", "--class-noun", "fox", "--yes", *at_home)
    words += ("--images", str(options.images), "--base", str(options.base))
    approve = ("client", "approve", "anna-h1", "--yes", *at_home)

    kept.unlink()
    unknown = run(*approve, "--json", check=False)
    kept.write_text(json.dumps(figures | raised))
    held = run(*words, check=False)
    as_json = run(*words, "--json", check=False)

    assert json.loads(unknown.stdout)["error"]["code"] == "not-scored"
    assert (unknown.returncode, held.returncode, as_json.returncode) == (2, 2, 2)
    told = " ".join(held.stderr.split())
    assert "WARNING, memorisation 0.200" in told
    assert "above 0.05 --yes is not enough" in told
    assert "orthofed client approve anna-h1" in told
    said = json.loads(as_json.stdout.splitlines()[-1])["error"]
    assert said["code"] == "learnt-by-heart"
    assert {entry["method"] for entry in sent_messages(owner.home)}.isdisjoint(UPLOADING)

    run(*approve)
    sent = run(*words)

    assert "anna-h1 is with the federation" in sent.stdout
    assert (folder / MANIFEST).read_bytes() == packed
