"""The egress list: computed from the very bytes that leave, and nothing leaves without a yes."""

import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from orthofed.client.egress import EgressList, beforehand, egress_list, gate
from orthofed.client.train_view import TrainView
from orthofed.core.errors import ContributionRejected, InputError
from orthofed.core.layout import ContributionLayout, pack
from orthofed.core.memorisation import Memorisation
from orthofed.core.quantise import Quantised

from .mirror import tiny_spec

LAYOUT = ContributionLayout(tiny_spec(), (2,))
MANIFEST = b"the signed manifest"


def _blob() -> bytes:
    tensors = {
        info.name: Quantised(np.full(info.shape, 20_000, np.int16), -20) for info in LAYOUT.content
    }
    return pack(LAYOUT, tensors)


def _listing() -> EgressList:
    return egress_list(MANIFEST, _blob(), layout=LAYOUT, triggers=("wolf-a1",))


def test_every_byte_is_in_the_list() -> None:
    """Two files with their lengths and hashes; the tensors are the blob's, with real norms."""
    listing = _listing()

    assert [(file.name, file.num_bytes, file.sha256) for file in listing.files] == [
        ("manifest.json", len(MANIFEST), hashlib.sha256(MANIFEST).hexdigest()),
        ("contribution.safetensors", LAYOUT.size, hashlib.sha256(_blob()).hexdigest()),
    ]
    assert listing.num_bytes == len(MANIFEST) + LAYOUT.size
    assert {t.name: t.shape for t in listing.tensors} == {i.name: i.shape for i in LAYOUT.content}
    data = sum(tensor.num_bytes for tensor in listing.tensors) + LAYOUT.exponents.size
    assert data + len(LAYOUT.header) == LAYOUT.size
    first = listing.tensors[0]
    assert math.isclose(first.norm, 20_000 * 2.0**-20 * math.sqrt(math.prod(first.shape)))


def test_bytes_that_are_no_contribution_are_never_listed() -> None:
    """A blob that breaks the layout cannot even be shown for approval."""
    with pytest.raises(ContributionRejected):
        egress_list(MANIFEST, _blob()[:-1], layout=LAYOUT, triggers=("wolf-a1",))


def test_the_gate_opens_with_a_yes_and_only_then() -> None:
    """The list that is asked about is the list that was made."""
    asked: list[EgressList] = []

    gate(_listing(), ask=lambda shown: asked.append(shown) is None)

    assert asked == [_listing()]
    with pytest.raises(InputError, match="not approved") as caught:
        gate(_listing(), ask=lambda _: False)
    assert caught.value.code == "egress-declined"


def test_a_yes_said_beforehand_is_none_to_what_was_learnt_by_heart() -> None:
    """Above the threshold it is shown and held; below it, and without a figure, it may leave."""
    shown: list[EgressList] = []
    regular = replace(_listing(), memorisation=Memorisation(0.05, 0.04))
    by_heart = replace(_listing(), memorisation=Memorisation(0.3, 0.1))

    for listing in (_listing(), regular):
        gate(listing, ask=beforehand("wolf-a1", shown.append))
    with pytest.raises(InputError, match="wolf-a1 is packed and was not sent") as caught:
        gate(by_heart, ask=beforehand("wolf-a1", shown.append))

    assert shown == [_listing(), regular, by_heart]
    assert (caught.value.code, caught.value.exit_code) == ("learnt-by-heart", 2)
    assert "orthofed client approve wolf-a1" in caught.value.fix


@pytest.mark.parametrize(
    ("licence", "title", "said"),
    [
        ("CC0-1.0", "", "CC0-1.0 (anyone may do anything with it); title: none; pictures: no"),
        ("CC-BY-4.0", "Lena [v]", "CC-BY-4.0; title: Lena [v]; pictures: yes"),
    ],
)
def test_the_list_says_what_is_published_and_cuts_no_hash(
    licence: str, title: str, said: str
) -> None:
    """A terminal of 60 columns: whole hashes to compare, and the folder where the files lie."""
    console = Console(record=True, width=60, markup=False)
    words = {"licence": licence, "title": title, "pictures": bool(title)}
    listing = replace(_listing(), folder="/home/lena/with/a/rather/long/path/runs/wolf-a1", **words)

    TrainView(console).accept(listing)

    told = console.export_text()
    assert f"licence: {said}\n" in told
    assert f"these files lie in {listing.folder}\n" in told
    assert all(f"  {file.sha256}\n" in told for file in listing.files)
