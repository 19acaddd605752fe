"""How a result of the study grows, and what is computed of it: no base, no training.

The arithmetic of benchmarks/study on results written by hand; the run itself is test_study.py.
"""

from typing import Any

import pytest

from .studied import of_the_study

NAMES = ("ana", "ben", "cid")


def outcome(losses: dict[str, float], lambda_: float = 1.0, **more: Any) -> Any:
    """Return what a set of concepts lost, of a method called ``lora``."""
    told = {"method": "lora", "factor": 1.0, "lambda": lambda_, "functional": 0.0, "weights": 0.0}
    return of_the_study("trials").Outcome.of_plain({**told, "losses": losses, **more})


def picture(names: tuple[str, ...], identity: float, lambda_: float = 1.0, each: int = 10) -> Any:
    """Return what ``each`` pictures of everybody in a set show: the same of all."""
    share = dict.fromkeys(names, identity)
    told: dict[str, Any] = {"method": "lora", "factor": 1.0, "lambda": lambda_}
    told |= dict.fromkeys(("identity", "likeness", "image", "text"), share)
    told["nearest"] = {name: {name: each} for name in names}
    return of_the_study("drawn").Drawn.of_plain(told)


def earlier(outcomes: list[Any], drawn: tuple[Any, ...] = ()) -> Any:
    """Return a result of one run."""
    runs = ({"methods": ["lora", "tokens"], "seed": 0},)
    return of_the_study("earlier").Earlier(runs, {}, tuple(outcomes), drawn)


ALONE = [outcome({name: 0.5}) for name in NAMES]


def test_a_concept_does_not_choose_the_lambda_that_it_is_measured_at() -> None:
    """Ana is best at 1, the others at .6: ana is measured at theirs, and each of them at ana's."""
    figures = of_the_study("figures")
    outcomes = [
        *ALONE,
        outcome({"ana": 0.10, "ben": 0.90, "cid": 0.90}, 1.0),
        outcome({"ana": 0.60, "ben": 0.70, "cid": 0.80}, 0.6),
    ]

    best = figures.losses(outcomes, "lora", "3@best")
    assert best == {("ana", NAMES, 0): 0.6, ("ben", NAMES, 0): 0.9, ("cid", NAMES, 0): 0.9}
    assert figures.best_lambdas(outcomes, "lora", "3") == {"0.6": 1, "1": 2}
    kept = figures.retentions(dict.fromkeys(NAMES, 1.0), outcomes, "lora", "3@best")
    assert kept["ana", NAMES, 0] == pytest.approx(0.8)


def test_a_lone_lambda_is_no_choice() -> None:
    figures = of_the_study("figures")
    outcomes = [*ALONE, outcome(dict.fromkeys(NAMES, 0.7), 0.6)]

    assert figures.losses(outcomes, "lora", "3@best") == {}
    assert figures.best_lambdas(outcomes, "lora", "3") == {}


def test_a_drop_is_from_the_concept_alone() -> None:
    """Of cid there are fewer pictures alone, so of other noises: nothing is said."""
    figures = of_the_study("figures")
    fewer = picture(("cid",), 0.9, each=5)
    drawn = [picture(("ana",), 0.9), picture(("ben",), 0.8), fewer, picture(NAMES, 0.7, 0.6)]

    drops = figures.drops(drawn, "lora", "3@0.6", "identity")
    assert drops == pytest.approx({("ana", NAMES, 0): -0.2, ("ben", NAMES, 0): -0.1})
    assert figures.drops(drawn, "lora", "1@1", "identity") == {}


def test_the_papers_table_stands_beside_what_was_drawn() -> None:
    """A row of the paper has ours below it, its interval too; what nobody drew is said."""
    alone = [picture((name,), 0.75) for name in NAMES]
    drawn = [*alone, picture(NAMES, 0.5, 0.6), picture(NAMES[:2], 0.6, 0.6)]
    outcomes = [*ALONE, outcome(dict.fromkeys(NAMES, 0.7), 0.6)]
    base = dict.fromkeys(NAMES, 1.0)
    table = of_the_study("figures").table(base, outcomes, drawn)
    result = {
        "runs": [],
        "people": "peeps",
        "concepts": NAMES,
        "steps": 1,
        "base": base,
        "methods": table,
        "outcomes": [each.as_plain() for each in outcomes],
        "drawn": [each.as_plain() for each in drawn],
    }

    found = of_the_study("summary").summary(result)
    _, body = of_the_study("paper").beside_the_paper(found)

    at = next(n for n, row in enumerate(body) if row[0] == "Mix-of-Show, FedAvg")
    assert body[at][1:3] == ["the paper", "0.728 -> 0.706 (-0.022)"]
    assert [row[1] for row in body[at + 1 : at + 3]] == ["`lora` at 0.6", "the paper"]
    assert body[at + 1][2] == "0.750 -> 0.500 (-0.250, -0.250 to -0.250)"
    said = {row[1] for row in body}
    assert {"`haar_draw`, not drawn", "not run"} <= said


def test_another_lambda_is_added_to_what_was_run() -> None:
    """The same trainings, as the losses alone show: sets and pictures of before stand."""
    before = [*ALONE, outcome(dict.fromkeys(NAMES, 0.7), 0.6)]
    pictures = (picture(NAMES, 0.7, 0.6),)
    new = [*ALONE, outcome(dict.fromkeys(NAMES, 0.9), 0.3)]

    found = earlier(before, pictures).rerun(new).grown(tuple(new), (), {})

    assert [each.trial.cell for each in found.outcomes] == ["3@0.6", "1@1", "1@1", "1@1", "3@0.3"]
    assert found.drawn == pictures
    assert [run["methods"] for run in found.runs] == [["lora", "tokens"]]


@pytest.mark.parametrize(
    ("loss", "factor"), [(0.51, 1.0), (0.5, 3.0)], ids=["another loss alone", "another factor"]
)
def test_nothing_of_other_trainings_is_left(loss: float, factor: float) -> None:
    before = [*ALONE, outcome(dict.fromkeys(NAMES, 0.7), 0.6)]
    new = [outcome({name: loss}, factor=factor) for name in NAMES]

    found = earlier(before, (picture(NAMES, 0.7, 0.6),)).rerun(new)

    assert (found.outcomes, found.drawn) == ((), ())
    assert [run["methods"] for run in found.runs] == [["tokens"]]


def test_another_method_and_another_seed_are_left_alone() -> None:
    before = [
        *(outcome({"ana": 0.4}, method=method) for method in ("lora", "tokens")),
        outcome({"ana": 0.3}, seed=1),
    ]

    found = earlier(before).rerun([outcome({"ana": 0.5})])

    assert [(each.trial.method, each.trial.seed) for each in found.outcomes] == [
        ("tokens", 0),
        ("lora", 1),
    ]


def test_some_of_the_sets_of_a_result_are_drawn() -> None:
    """Fewer sets are among more; concepts alone, and sets of a size not told of, are all drawn."""
    study = of_the_study("trial")
    pairs = study.sets_of(NAMES, 2, 3, seed=0)
    trials = [study.Trial("lora", 1.0, names) for names in ((NAMES[0],), *pairs, NAMES)]

    def wanted(sizes: dict[int, int]) -> list[tuple[str, ...]]:
        return [each.names for each in trials if study.is_among(each, NAMES, sizes, seed=0)]

    some = wanted({2: 2})
    assert some == [(NAMES[0],), *study.sets_of(NAMES, 2, 2, seed=0), NAMES]
    assert len({*pairs} - {*some}) == 1
    assert wanted({2: 3, 3: 1}) == [each.names for each in trials]


def test_each_at_its_best_has_the_same_lambdas_to_choose_from() -> None:
    """LoRA was run at .3 too, and is best there: beside one that was not, it is as at .6."""
    lora = [outcome(dict.fromkeys(NAMES, x), at) for x, at in ((0.6, 0.3), (0.9, 0.6), (0.95, 1.0))]
    other = [outcome({name: 0.5}, method="haar_draw") for name in NAMES]
    for x, at in ((0.8, 0.6), (0.7, 1.0)):
        other.append(outcome(dict.fromkeys(NAMES, x), at, method="haar_draw"))
    everything = [*ALONE, *lora, *other]

    found = of_the_study("comparing").differences(dict.fromkeys(NAMES, 1.0), everything, [])

    assert found["haar_draw - lora 3@best"]["loss"]["mean"] == pytest.approx(0.7 - 0.9)
    assert found["haar_draw - lora 3@0.6"]["loss"]["mean"] == pytest.approx(0.8 - 0.9)
    assert "haar_draw - lora 3@0.3" not in found
