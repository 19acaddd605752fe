"""T14: what cancels, hijacks or copies another concept is kept out, alone or together."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from orthofed.coordinator import contribution_rows, together
from orthofed.coordinator.cli import app
from orthofed.coordinator.control import ControlServer
from orthofed.coordinator.policy import Policy
from orthofed.core.bounds import MOST
from orthofed.core.crosstalk import Heard, response, share, text_readers
from orthofed.core.errors import Refused
from orthofed.core.layout import ContributionLayout, pack, unpack
from orthofed.core.quantise import Quantised, dequantise, quantise
from orthofed.core.spec_blocks import block

from .lenient import ANYTHING
from .member import Leased, Member, random_blob
from .serving import Running, founded, running

GATES = Policy(norm_percent=MOST, embedding_percent=MOST, budget_percent=MOST)
"""Random numbers weigh what they weigh; here only what they do to others is judged."""


@pytest.fixture
def coordinator(tmp_path):
    with running(founded(tmp_path, policy=GATES, seed=bytes(32))) as started:
        yield started


class Owner:
    """A member with a lease and what it will send."""

    def __init__(self, coordinator: Running, name: str, *triggers: str) -> None:
        self.member: Member = coordinator.member()
        self.lease: Leased = self.member.lease(name, triggers or (f"{name}-k7",))
        self.spec = self.member.spec()
        self.layout = ContributionLayout(self.spec, self.lease.vectors)
        self.blob = random_blob(
            self.spec, self.lease.vectors, seed=sum(name.encode()), size=0.01, embed=1.0
        )
        random = np.random.default_rng(sum(name.encode()))
        for k in range(len(self.lease.vectors)):
            trigger = random.standard_normal(self.layout.by_name[f"probe.{k}"].shape[1])
            noise = 0.02 * random.standard_normal((4, len(trigger)))
            self.with_tensors({f"probe.{k}": trigger + noise})

    @property
    def tensors(self) -> dict[str, Quantised]:
        return unpack(self.layout, self.blob)

    def with_tensors(self, changed: dict[str, np.ndarray]) -> "Owner":
        tensors = self.tensors
        for name, values in changed.items():
            low, high = self.layout.window(name)
            tensors[name] = quantise(values.astype(np.float32), low=low, high=high)
        self.blob = pack(self.layout, tensors)
        return self

    @property
    def heard(self) -> Heard:
        a = {x.path: dequantise(self.tensors[f"a.{x.path}"]) for x in text_readers(self.spec)}
        names = [name for name in self.tensors if name.startswith("probe.")]
        return Heard(self.lease.slot, a, np.stack([dequantise(self.tensors[n]) for n in names]))

    def acting_on(self, victim: "Owner", strength: float) -> "Owner":
        """Do ``strength`` times what the victim does on its last trigger; else what it did."""
        changed, x = {}, victim.heard.probes[-1]
        for layer in text_readers(self.spec):
            own, theirs = (
                block(self.spec, layer, slot) for slot in (self.lease.slot, victim.lease.slot)
            )
            wanted = (victim.heard.a[layer.path] @ (theirs.T @ x.T)).mean(1)
            heard, a = (own.T @ x.T).mean(1), self.heard.a[layer.path]
            missing = strength * wanted - a @ heard
            changed[f"a.{layer.path}"] = a + np.outer(missing, heard) / (heard @ heard)
        return self.with_tensors(changed)

    def send(self) -> int:
        packed = self.member.pack(self.lease, blob=self.blob)
        return self.member.check(self.member.contribute(packed)).index

    @property
    def state(self) -> tuple[str, str]:
        told = self.member.status(self.lease)
        return told.state, told.why


@pytest.mark.parametrize("strength", [-1.0, -0.5, -0.3, 0.3, 1.0])
def test_what_acts_on_anothers_trigger_is_kept_out(coordinator, strength):
    """Orthogonal to the last bit, and yet it cancels or repeats anna; anna and the rest stay."""
    anna, bert = Owner(coordinator, "anna"), Owner(coordinator, "bert")
    anna.send()
    bert.send()
    evil = Owner(coordinator, "evil").acting_on(anna, strength)

    leaf = evil.send()

    state, why = evil.state
    assert state == "quarantined"
    assert "on the trigger of anna it does" in why
    assert [x.state[0] for x in (anna, bert)] == ["accepted", "accepted"]
    rows = coordinator.desk.ask("contributions", {})["contributions"]
    figures = next(row["figures"] for row in rows if row["leaf"] == leaf)
    assert figures["retention_percent"] == pytest.approx(100 * strength, rel=0.15)


def test_one_trigger_of_two_is_not_made_up_for_by_the_other(coordinator):
    """On anna's second trigger half is cancelled, on her first next to nothing."""
    anna = Owner(coordinator, "anna", "anna-k7", "anna-cat")
    anna.send()
    evil = Owner(coordinator, "evil").acting_on(anna, -0.5)
    evil.send()

    spec, x = evil.spec, anna.heard
    first, second = share(response(spec, x, x.probes), response(spec, evil.heard, x.probes))
    assert second == pytest.approx(-0.5, rel=0.1)
    assert abs(first) < 0.25
    assert "on the trigger of anna it does -" in evil.state[1]


def test_one_that_is_all_but_silent_makes_nobody_look_loud(coordinator):
    """T14: truthful probes, and A a 500th of what it was, clear of all that is there.

    Of next to nothing everybody who comes after it does many times as much.
    """
    anna, bert, evil = (Owner(coordinator, name) for name in ("anna", "bert", "evil"))
    anna.send()
    bert.send()
    changed = {}
    for layer in text_readers(evil.spec):
        there, _ = np.linalg.qr(np.hstack([x.heard.a[layer.path] for x in (anna, bert)]))
        a = evil.heard.a[layer.path]
        changed[f"a.{layer.path}"] = 0.002 * (a - there @ (there.T @ a))
    evil.with_tensors(changed).send()
    later = [Owner(coordinator, name) for name in ("carl", "dora", "egon")]
    for owner in later:
        owner.send()

    own = response(evil.spec, evil.heard, evil.heard.probes)
    shares = [
        abs(share(own, response(evil.spec, owner.heard, evil.heard.probes)).item())
        for owner in later
    ]
    assert min(shares) > 5, "of what it does itself"
    assert {owner.state for owner in (anna, bert, evil, *later)} == {("accepted", "")}


def test_a_little_of_it_passes(coordinator):
    """Below the threshold nobody is accused: strength 0.2 of 0.25 allowed."""
    anna, other = Owner(coordinator, "anna"), Owner(coordinator, "other")
    anna.send()
    other.acting_on(anna, -0.2).send()

    assert other.state == ("accepted", "")


def test_a_copy_in_another_slot_is_kept_out(coordinator):
    """The same A does something else behind another B, and is a copy all the same."""
    anna, thief = Owner(coordinator, "anna"), Owner(coordinator, "thief")
    anna.send()
    thief.blob = anna.blob
    thief.send()

    state, why = thief.state
    assert state == "quarantined"
    assert "100 % the same as anna" in why


def test_a_copy_of_the_vectors_alone_is_kept_out(coordinator):
    """The trigger of another concept under another name."""
    anna, thief = Owner(coordinator, "anna"), Owner(coordinator, "thief")
    anna.send()
    name = next(n for n in anna.tensors if n.startswith("embed."))
    thief.with_tensors({name: dequantise(anna.tensors[name])}).send()

    assert "the same as anna" in thief.state[1]


def test_a_copy_of_what_was_rejected_is_kept_out(coordinator):
    """Trying again with the same bytes is no way in."""
    first, again = Owner(coordinator, "first"), Owner(coordinator, "again")
    coordinator.desk.ask("reject", {"leaf": first.send(), "why": "no"})
    again.blob = first.blob
    again.send()

    assert "the same as first" in again.state[1]


def test_a_concept_that_others_already_answer_for_is_told_so(coordinator):
    """Who was there first stays; the newcomer reads what is done to its own trigger."""
    anna, late = Owner(coordinator, "anna"), Owner(coordinator, "late")
    anna.acting_on(late, -0.8).send()
    late.send()

    assert anna.state[0] == "accepted"
    assert "on this concept's own trigger anna, which was there before, does -8" in late.state[1]


def test_parts_that_cancel_only_together_are_found_when_a_release_is_made(coordinator):
    """Together 0.53 of 0.4 allowed: the largest share goes, the release has the rest."""
    victim = Owner(coordinator, "victim")
    leaves = [victim.send()]
    parts = [Owner(coordinator, f"part{k}") for k in "xyz"]
    for part, strength in zip(parts, (-0.17, -0.21, -0.15), strict=True):
        leaves.append(part.acting_on(victim, strength).send())
    before = [part.state[0] for part in parts]

    made = coordinator.release()

    assert before == ["accepted"] * 3
    assert [part.state[0] for part in parts] == ["accepted", "quarantined", "accepted"]
    assert f"of what contribution {leaves[0]} does" in parts[1].state[1]
    assert made["concepts"] == 3


def test_the_operator_sees_which_concepts_weigh_most_on_each(coordinator):
    """Four act on one: the three heaviest by size, signed, in the row and under it as text."""
    victim = Owner(coordinator, "victim")
    leaves = {"victim": victim.send()}
    for name, strength in (("weak", 0.05), ("loud", -0.2), ("near", 0.1), ("wide", 0.15)):
        leaves[name] = Owner(coordinator, name).acting_on(victim, strength).send()
    coordinator.release()

    control = ControlServer(coordinator.folder.control, lambda _: coordinator.desk)
    try:
        words = ["retention", str(coordinator.folder.root)]
        rows = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)["concepts"]
        text = CliRunner().invoke(app, words).stdout.splitlines()
    finally:
        control.close()

    by_whom = {row["concept"]: row["disturbed_by"] for row in rows}["victim"]
    assert [each["concept"] for each in by_whom] == ["loud", "wide", "near"]
    assert [each["leaf"] for each in by_whom] == [leaves[n] for n in ("loud", "wide", "near")]
    assert [each["percent"] for each in by_whom] == pytest.approx([-20, 15, 10], abs=2)
    below = text[next(k for k, line in enumerate(text) if line.startswith("victim ")) + 1]
    assert re.fullmatch(
        r"    on its trigger, estimated: loud -[0-9.]+ %, wide \+[0-9.]+ %, near \+[0-9.]+ %", below
    )


def test_what_the_operator_approved_is_not_put_back(coordinator):
    """The three parts once more, each approved: the release has them all."""
    victim = Owner(coordinator, "victim")
    victim.send()
    for k in "xyz":
        leaf = Owner(coordinator, f"part{k}").acting_on(victim, -0.2).send()
        coordinator.desk.ask("approve", {"leaf": leaf})

    assert coordinator.release()["concepts"] == 4


def test_a_pair_that_came_at_once_is_measured_before_a_release(coordinator):
    """Two commits at one moment see nothing of each other; the release looks again."""
    anna, evil = Owner(coordinator, "anna"), Owner(coordinator, "evil")
    anna.send()
    coordinator.house.settings = replace(coordinator.house.settings, admission=ANYTHING)
    leaf = evil.acting_on(anna, -1.0).send()
    coordinator.house.settings = replace(coordinator.house.settings, admission=GATES)
    coordinator.house.store.run(lambda db: contribution_rows.set_figures(db, leaf, "{}"))

    together.settle(coordinator.house, 1024)

    assert evil.state[0] == "quarantined"
    figures = [x.figures for x in coordinator.house.store.run(contribution_rows.every)]
    assert any(json.loads(each).get("pairs") for each in figures)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_full_house_at_the_cap_stays_in_budget_and_a_larger_lambda_is_held(tmp_path, epochs):
    """T12: every slot at the norm cap, whatever the capacity; the default budget."""
    policy = replace(GATES, norm_percent=100, budget_percent=0)
    with running(founded(tmp_path, policy=policy, epochs=epochs)) as coordinator:
        spec = coordinator.house.facts.spec
        for number in range(spec.capacity):
            owner = Owner(coordinator, f"name-{number}")
            owner.send()
        at_cap = json.dumps({"layers": [100.0] * len(spec.layers)})
        for entry in coordinator.house.store.run(contribution_rows.every):
            coordinator.house.store.run(
                lambda db, leaf=entry.leaf: contribution_rows.set_figures(db, leaf, at_cap)
            )

        together._check_budget(coordinator.house, company_of(coordinator), 1024)
        with pytest.raises(Refused) as held:
            together._check_budget(coordinator.house, company_of(coordinator), 1036)

    assert held.value.code == "over-budget"


def company_of(coordinator: Running) -> together._Set:
    store = coordinator.house.store
    entries = store.run(contribution_rows.every)
    company = together._Set(entries, *store.run(lambda db: together._parts(db, entries)))
    company.figures = {entry.leaf: json.loads(entry.figures) for entry in entries}
    return company


def test_a_house_over_budget_holds_the_release(tmp_path):
    """T12: no one part is to blame, so nobody is accused; a smaller lambda lets it through."""
    policy = replace(GATES, budget_percent=100)
    with running(founded(tmp_path, policy=policy, seed=bytes(32))) as coordinator:
        for name in ("anna", "bert", "cleo"):
            owner = Owner(coordinator, name)
            owner.blob = random_blob(owner.spec, (1,), seed=len(name), size=0.1, embed=1.0)
            owner.blob = random_blob(owner.spec, (1,), seed=sum(name.encode()), size=0.1, embed=1.0)
            owner.send()
        with pytest.raises(Refused) as held:
            coordinator.release()
        made = coordinator.release(lambda_1024=64)

    assert held.value.code == "over-budget"
    assert "smaller --lambda" in held.value.fix
    assert made["concepts"] == 3


def test_a_concept_that_does_nothing_cannot_be_spoilt():
    """Zero is a named case: no division."""
    silent, loud = np.zeros((2, 3)), np.ones((2, 3))

    assert share(silent, loud).tolist() == [0.0, 0.0]
    assert share(loud, -loud).tolist() == [-1.0, -1.0]


def test_what_several_do_adds_up():
    """To what they do together, and a prompt counts by what the concept does there."""
    random = np.random.default_rng(0)
    own, one, other = random.standard_normal((3, 2, 12))

    assert share(own, one) + share(own, other) == pytest.approx(share(own, one + other))
    loud = np.array([[3.0, 1.0]])
    assert share(loud, np.array([[-3.0, 0.0]])).tolist() == [-0.9]
    assert share(loud, np.array([[0.0, -1.0]])).tolist() == [-0.1]


def test_a_spec_without_text_layers_hears_nothing(coordinator):
    """The gate is empty there, and says nothing wrong."""
    spec = coordinator.house.facts.spec
    deaf = replace(
        spec,
        layers=tuple(x for x in spec.layers if ".attn2." not in x.path),
        ranks=tuple(
            pair
            for pair in spec.ranks
            if any(x.width == pair[0] for x in spec.layers if ".attn2." not in x.path)
        ),
    )

    heard = Heard(0, {}, np.ones((1, 4, 48), np.float32))
    assert text_readers(deaf) == ()
    assert response(deaf, heard, heard.probes).shape == (1, 0)
