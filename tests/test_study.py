"""The study's smoke run: what it prints, and the laws that hold at any size."""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any
from xml.dom import minidom

import pytest

from orthofed.client.memorisation import planned_draws
from orthofed.client.score import Scorer
from orthofed.client.training_settings import TrainingSettings

from .doc_make import ready_to_make
from .doc_runner import ROOT, console, environment
from .studied import of_the_study

pytestmark = pytest.mark.long

BENCHMARKS = ROOT / "benchmarks"
PROMPTS = 6
"""Pictures of a concept in the smoke run: one of each prompt."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the commands of docs/study.md can be typed."""
    folder = ready_to_make(tmp_path_factory.mktemp("study"))
    left = shutil.ignore_patterns("__pycache__")
    shutil.copytree(BENCHMARKS, folder / "benchmarks", ignore=left)
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "assets"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture(scope="module")
def smoke(checkout: Path) -> tuple[dict[str, Any], Path]:
    """Return what the page's smoke run wrote, and the folder that it keeps."""
    return run(checkout), checkout / "build"


def grown(work: Path, *more: str, to: str) -> dict[str, Any]:
    """Return what the same smoke run wrote, of other methods."""
    done = asked(work, *more, to=to)
    assert done.returncode == 0, done.stderr
    return json.loads((work / to).read_text())


def asked(work: Path, *more: str, to: str) -> subprocess.CompletedProcess[str]:
    """Run it beside what is kept, with more options: next to nothing is left, for one process."""
    with asking(work, *more, to=to) as running:
        said, complained = running.communicate()
    return subprocess.CompletedProcess(running.args, running.returncode, said, complained)


def asking(work: Path, *more: str, to: str) -> subprocess.Popen[str]:
    """Start it."""
    kept = ["--work", str(work / "study"), "--out", str(work / to)]
    return subprocess.Popen(
        [sys.executable, "-m", "study", "--smoke", "--processes", "1", *kept, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=work.parent / "benchmarks",
        env=environment(work),
    )


def looked_at(work: Path, command: str, *words: str, of: str = "study/study.json") -> Any:
    """Return what ``python -m study.COMMAND`` writes of the smoke run, or why it does not."""
    kept = ("--work", str(work / "study"), "--out", str(work / f"{command}.json"))
    done = subprocess.run(
        [sys.executable, "-m", f"study.{command}", str(work / of), *kept, *words],
        check=False,
        capture_output=True,
        text=True,
        cwd=work.parent / "benchmarks",
        env=environment(work),
    )
    return (
        json.loads((work / f"{command}.json").read_text()) if not done.returncode else done.stderr
    )


def run(checkout: Path) -> dict[str, Any]:
    """Type the page's first command."""
    smoke, *_ = commands()
    assert "--smoke" in smoke
    type_(checkout, smoke)
    return json.loads((checkout / "build" / "study" / "study.json").read_text())


def commands() -> list[str]:
    """Return the commands of docs/study.md that are typed."""
    (block,) = console(ROOT / "docs" / "study.md")
    return [command.typed for command in block]


def type_(checkout: Path, command: str) -> None:
    """Type one of them."""
    done = subprocess.run(
        ["bash", "-c", command],
        check=False,
        capture_output=True,
        text=True,
        cwd=checkout,
        env=environment(checkout),
    )
    assert done.returncode == 0, f"$ {command}\n{done.stdout}\n{done.stderr}"


def test_tokens_alone_lose_nothing_when_they_are_merged(
    smoke: tuple[dict[str, Any], Path],
) -> None:
    """Nothing of another concept is read with this one's words (method.md 8: any scale)."""
    row = smoke[0]["methods"]["tokens"]

    assert row["2@1"]["retention"] == 1.0
    assert row["2@1"]["identity"] == row["1@1"]["identity"]


def test_weights_overlap_where_blocks_do_and_nowhere_else(
    smoke: tuple[dict[str, Any], Path],
) -> None:
    methods = smoke[0]["methods"]

    assert methods["hadamard"]["2@1"]["weight_crosstalk"] < 1e-6
    assert methods["equal"]["2@1"]["weight_crosstalk"] > 0.1
    assert methods["hadamard"]["2@1"]["functional_crosstalk"] > 0.1, "orthogonal is not silent"


def test_fusion_is_another_model_made_of_the_same_trainings(
    smoke: tuple[dict[str, Any], Path],
) -> None:
    methods = smoke[0]["methods"]

    assert methods["lora_fusion"]["1@1"]["loss"] == pytest.approx(
        methods["lora"]["1@1"]["loss"], rel=1e-3
    )
    assert methods["lora_fusion"]["2@1"]["loss"] != methods["lora"]["2@1"]["loss"]


def test_the_report_shows_what_the_run_found(
    smoke: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    """A row a method with the run's numbers, a row a comparison, and a plot that is a picture."""
    result, work = smoke
    env = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    words = ["-m", "study.report", str(work / "study" / "study.json"), "--out", str(tmp_path)]
    subprocess.run([sys.executable, *words], check=True, cwd=BENCHMARKS, env=env)

    lines = (tmp_path / "tables.md").read_text().splitlines()
    for method, row in result["methods"].items():
        line, _, pictures = [each for each in lines if each.startswith(f"| `{method}` |")]
        assert f"{row['1@1']['loss']:.5f}" in line
        assert f" {row['2@1']['retention']:.2f} (" in line
        assert pictures.startswith(f"| `{method}` | 2 at 1 | {2 * PROMPTS} of 1,000 | 1 |")
        for figure in ("identity", "likeness", "nearest_is_own", "image", "text"):
            assert f" {row['2@1'][figure]:.3f} (" in pictures
    assert sum(line.startswith("| `hadamard - ") for line in lines) == 4
    for name in result["concepts"]:
        counts = [line.split("|")[2:-1] for line in lines if line.startswith(f"| {name} |")]
        assert len(counts) == 2 * len(result["methods"]), "alone and merged, a matrix each"
        assert all(sum(map(int, row)) == PROMPTS for row in counts)
    for plot in ("retention", "identity"):
        text = minidom.parse(str(tmp_path / f"{plot}.svg")).toxml()  # noqa: S318  # ours
        assert [method for method in result["methods"] if method not in text] == []


def test_what_was_learnt_by_heart_is_scored_on_the_very_trainings(
    smoke: tuple[dict[str, Any], Path],
) -> None:
    """Nothing is trained for it; the gains are those on what was trained on and on what was not."""
    result, work = smoke
    trained = {path.name for path in (work / "study" / "trained").iterdir()}
    found = looked_at(work, "by_heart", "--methods", "hadamard", "--draws", "16")
    row = found["methods"]["hadamard"]

    assert {path.name for path in (work / "study" / "trained").iterdir()} == trained
    assert [*row["concepts"]] == result["concepts"]
    alone = [o for o in result["outcomes"] if o["method"] == "hadamard" and len(o["losses"]) == 1]
    for (name, told), outcome in zip(row["concepts"].items(), alone, strict=True):
        gain = 1 - outcome["losses"][name] / result["base"][name]
        assert told["gain_held_out"] == pytest.approx(gain, abs=1e-4)
        assert told["gain_trained"] == pytest.approx(gain_trained(name, result, work), abs=1e-4)
        assert told["score"] == pytest.approx(told["gain_trained"] - gain, abs=2e-4)
    scores = [told["score"] for told in row["concepts"].values()]
    assert row["mean"] == pytest.approx(mean(scores), abs=1e-4)
    assert row["flagged"] == sum(score > row["threshold"] for score in scores)


def gain_trained(name: str, result: dict[str, Any], work: Path) -> float:
    """Return what a disjoint block gained on the images that it was trained on, six steps."""
    study = of_the_study("bench")
    at = study.Conditions(
        ROOT / "assets" / "pocket-base", "peeps", work / "study", (*result["concepts"],), steps=6
    )
    bench = study.Bench(at)
    learnt = bench.learnt("hadamard", name, 1.0, 0)
    draws = planned_draws(TrainingSettings(steps=6))
    images = bench.images[name].train
    some = [images[place * len(images) // draws] for place in range(draws)]
    scorer = Scorer.on(bench.base, some, num_draws=draws)
    return 1 - scorer.loss(learnt.variant, learnt.phrase) / scorer.base_loss("person")


def test_movement_of_words_is_told_apart_from_a_loud_block(
    smoke: tuple[dict[str, Any], Path],
) -> None:
    """Behind one block for both, what is more of one's words in it is as much less of the other's.

    So a block that hears everybody's words well says nothing of whose they are.
    """
    result, work = smoke
    found = looked_at(work, "movement", "--methods", "equal", "hadamard")["methods"]

    for figure in ("moved", "heard"):
        same, own = (found[m][figure]["concepts"] for m in ("equal", "hadamard"))
        assert [*same] == [*own] == result["concepts"]
        assert math.prod(same.values()) == pytest.approx(1, abs=1e-3)
        assert math.prod(own.values()) != pytest.approx(1, abs=1e-2)
        assert found["hadamard"][figure]["mean"] == pytest.approx(mean(own.values()), abs=1e-4)
    assert found["equal"]["moved"] != found["equal"]["heard"], "after alone, and what it moved by"


def test_costs_are_counted_from_what_was_trained(smoke: tuple[dict[str, Any], Path]) -> None:
    """A LoRA sends both sides, a frozen block one; a sum is all of them, a fusion fills layers."""
    result, work = smoke
    methods = ("tokens", "lora", "lora_fusion", "hadamard", "hadamard_refit")
    found = looked_at(work, "cost", "--methods", *methods)["methods"]
    sent = {method: row["sent_bytes"] for method, row in found.items()}
    model = {method: row["model_bytes"] for method, row in found.items()}

    num = len(result["concepts"])
    assert model["tokens"] == 0
    assert num * (sent["lora"] - sent["tokens"]) == model["lora"] == model["hadamard"]
    assert sent["tokens"] < sent["hadamard"] < sent["lora"] == sent["lora_fusion"]
    assert model["hadamard_refit"] == model["hadamard"] != model["lora_fusion"]
    assert {method for method, row in found.items() if "record_s" in row} == {
        "lora_fusion",
        "hadamard_refit",
    }
    assert all(row["merge_s"] >= 0 for row in found.values())


def test_crosstalk_by_layer_is_that_of_the_whole_taken_apart(
    smoke: tuple[dict[str, Any], Path],
) -> None:
    """Of weights the mean; of what is done on inputs something between least and most."""
    result, work = smoke
    found = looked_at(work, "layers", "--methods", "equal", "hadamard")["methods"]

    for method, row in found.items():
        whole = result["methods"][method]["2@1"]
        weights, functional = (row[f]["layers"].values() for f in ("weights", "functional"))
        assert mean(weights) == pytest.approx(whole["weight_crosstalk"], abs=1e-4)
        assert min(functional) < whole["functional_crosstalk"] < max(functional)
    assert max(found["hadamard"]["weights"]["layers"].values()) < 1e-4
    assert min(found["equal"]["weights"]["layers"].values()) > 1e-3


def test_what_cannot_be_looked_at_again_is_refused(smoke: tuple[dict[str, Any], Path]) -> None:
    """A method that was not run, and a concept that has nobody to be compared with."""
    result, work = smoke
    first, alone = result["concepts"][0], {**result, "outcomes": []}
    alone["outcomes"] = [o for o in result["outcomes"] if [*o["losses"]] == [first]]
    (work / "alone.json").write_text(json.dumps(alone))

    assert "haar: nothing of it stands alone in" in looked_at(work, "layers", "--methods", "haar")
    assert f"hadamard: of {first} alone nothing can be compared" in looked_at(
        work, "movement", "--methods", "hadamard", of="alone.json"
    )


@pytest.mark.docs
def test_the_long_runs_of_the_page_go_the_same_way(
    smoke: tuple[dict[str, Any], Path], checkout: Path
) -> None:
    """With the smoke run's settings, beside what it keeps; the second adds to the first's."""
    work = smoke[1]
    _, first, second, *_ = commands()

    for number, command in enumerate((first, second), start=1):
        small = command.replace('STUDY="', f'STUDY="--smoke --out {work}/long-{number}.json ')
        assert small != command
        here = small.replace("FOLDER", f"{work}/study")
        type_(checkout, here.replace("results/study-cpu-1.json", f"{work}/long-1.json"))

    runs = json.loads((work / "long-2.json").read_text())["runs"]
    assert [run["methods"] for run in runs] == [
        ["hadamard", "equal", "hadamard_null10", "equal_null10"],
        ["lora", "lora_fusion", "lora_refit", "hadamard_null10_refit", "equal_null10_refit"],
    ]


def test_what_was_trained_and_drawn_is_not_made_again(
    smoke: tuple[dict[str, Any], Path],
) -> None:
    first, work = smoke
    files = [path for path in work.rglob("*") if path.is_file() and path.suffix != ".json"]
    made = {path: path.stat().st_mtime_ns for path in files}

    again = run(work.parent)

    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert again["methods"] == first["methods"]
    assert any(path.suffix == ".png" for path in made)


def test_pictures_are_judged_again_from_their_sheets(smoke: tuple[dict[str, Any], Path]) -> None:
    """A judge that learns something new reads what was drawn: it is drawn without loss, once."""
    whole, work = smoke
    verdicts = [*work.rglob("hadamard-*/judged-*.json")]
    sheets = {path: path.stat().st_mtime_ns for path in work.rglob("*.png")}
    for verdict in verdicts:
        verdict.unlink()

    again = grown(work, "--methods", "hadamard", to="judged.json")

    assert verdicts
    assert all(verdict.is_file() for verdict in verdicts)
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*.png")} == sheets
    assert again["methods"]["hadamard"] == whole["methods"]["hadamard"]


def test_pictures_are_added_to_a_result_and_nothing_else_is_done(
    smoke: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    """Trainings that are gone are not asked for either, where the sheets are there."""
    whole, work = smoke
    bare = grown(work, "--methods", "equal", "hadamard", "--pictures", "0", to="bare.json")
    shutil.copytree(work / "study" / "drawn", tmp_path / "drawn")

    found = grown(
        work,
        *("--add", str(work / "bare.json"), "--draw-only", "--work", str(tmp_path)),
        *("--methods", "hadamard", "--cells", "2@1"),
        to="pictured.json",
    )

    assert [path.name for path in tmp_path.iterdir()] == ["drawn"]
    assert bare["drawn"] == []
    assert found["outcomes"] == bare["outcomes"]
    kept = found["methods"]["hadamard"]
    assert kept == {**whole["methods"]["hadamard"], "1@1": bare["methods"]["hadamard"]["1@1"]}
    assert found["methods"]["equal"] == bare["methods"]["equal"]
    assert found["runs"][-1]["drew_only"] == ["2@1"]


def test_what_is_gone_is_trained_again_at_the_factor_that_the_result_tells(
    smoke: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    """And the run says so. The same trainings make the same pictures."""
    whole, work = smoke

    done = asked(
        work,
        *("--add", str(work / "study" / "study.json"), "--draw-only", "--work", str(tmp_path)),
        *("--methods", "lora", "--cells", "2@1"),
        to="trained-again.json",
    )

    assert done.returncode == 0, done.stderr
    assert f"2 trainings are not in {tmp_path}: they are done again" in done.stderr
    assert json.loads((work / "trained-again.json").read_text())["methods"] == whole["methods"]


def test_a_slow_method_learns_at_the_rate_below_the_best(
    smoke: tuple[dict[str, Any], Path],
) -> None:
    whole, work = smoke

    found = grown(work, "--methods", "equal", "hadamard_slow", "--pictures", "0", to="slow.json")

    assert whole["methods"]["hadamard"]["factor"] == 1.0
    assert found["methods"]["hadamard_slow"]["factor"] == 0.3
    assert found["methods"]["equal"]["factor"] == 1.0
    slow, fast = (
        r["methods"][m]["1@1"] for r, m in ((found, "hadamard_slow"), (whole, "hadamard"))
    )
    assert slow["loss"] != fast["loss"]


def test_a_result_grows_by_another_training_seed(smoke: tuple[dict[str, Any], Path]) -> None:
    """Other trainings, the same draws, sets and noise: both count, and each stands as it was."""
    whole, work = smoke
    grown(work, "--methods", "equal", "hadamard", "--pictures", "0", to="seed-0.json")

    both = grown(
        work,
        *("--add", str(work / "seed-0.json"), "--seed", "1", "--pictures", "0"),
        *("--methods", "equal", "hadamard"),
        to="seed-1.json",
    )

    assert [run["seed"] for run in both["runs"]] == [0, 1]
    row = both["methods"]["hadamard"]["2@1"]
    assert (row["seeds"], row["sets"]) == (2, 1)
    assert row["loss"] != whole["methods"]["hadamard"]["2@1"]["loss"]
    by_seed = {
        seed: [o for o in both["outcomes"] if o["seed"] == seed and o["method"] == "hadamard"]
        for seed in (0, 1)
    }
    assert by_seed[0] == [o for o in whole["outcomes"] if o["method"] == "hadamard"]
    assert len(by_seed[1]) == len(by_seed[0])


def test_a_result_grows_by_methods_of_another_run(
    smoke: tuple[dict[str, Any], Path],
) -> None:
    """What one run found is in the next one's tables and comparisons, and both runs are told."""
    whole, work = smoke
    grown(work, "--methods", "tokens", "lora", "equal", to="first.json")

    both = grown(
        work, "--add", str(work / "first.json"), "--methods", "hadamard", "equal", to="both.json"
    )

    assert [each["methods"] for each in both["runs"]] == [["tokens", "lora"], ["hadamard", "equal"]]
    assert both["methods"] == {
        method: whole["methods"][method] for method in ("tokens", "lora", "hadamard", "equal")
    }
    outcomes = [each for each in whole["outcomes"] if each["method"] in both["methods"]]
    assert sorted(map(repr, both["outcomes"])) == sorted(map(repr, outcomes))


def test_what_a_killed_run_found_is_a_result(smoke: tuple[dict[str, Any], Path]) -> None:
    """SIGKILL once there is one: it holds the methods that were done, and the next adds to it."""
    whole, work = smoke
    kept = work / "killed.json"
    with asking(work, "--methods", "tokens", "loudest", to=kept.name) as running:
        while not kept.is_file() and running.poll() is None:
            time.sleep(0.05)
        running.kill()

    found = json.loads(kept.read_text())

    assert [each["methods"] for each in found["runs"]] == [["tokens"]]
    assert found["methods"] == {"tokens": whole["methods"]["tokens"]}


def test_a_result_of_other_conditions_is_not_added_to(
    smoke: tuple[dict[str, Any], Path],
) -> None:
    result, work = smoke
    name = result["concepts"][1]
    other = {**result, "base": {**result["base"], name: result["base"][name] * 1.00001}}
    (work / "other.json").write_text(json.dumps(other))

    done = asked(work, "--add", str(work / "other.json"), "--methods", "tokens", to="none.json")

    assert done.returncode == 1
    assert f"the base's loss on {name} is {other['base'][name]} there" in done.stderr
    assert not (work / "none.json").exists()


def test_a_picture_of_somebody_else_is_not_taken_for_a_concept(
    smoke: tuple[dict[str, Any], Path],
) -> None:
    """The embedder never saw the concepts; held-out drawings of them it tells apart."""
    assert smoke[0]["identity"]["equal_error_rate"] <= 0.05


@pytest.mark.docs
def test_the_second_style_goes_the_same_way(
    smoke: tuple[dict[str, Any], Path],
) -> None:
    """Other people, whom the judge does not know either: nobody is taken for somebody else."""
    work = smoke[1]

    found = grown(work, "--people", "adventurers", "--methods", "hadamard", to="second.json")

    assert found["people"] == "adventurers"
    assert {*found["concepts"]}.isdisjoint(smoke[0]["concepts"])
    assert found["identity"]["equal_error_rate"] <= 0.05
    assert found["methods"]["hadamard"]["2@1"]["pictures"] > 0


@pytest.fixture(scope="module")
def reported(checkout: Path) -> Path:
    """Give a folder in which the page's last two commands were typed, with nothing there before."""
    for path in (checkout / "benchmarks" / "study").glob("summary*.json"):
        path.unlink()
    for command in commands()[-2:]:
        assert "study.report" in command
        type_(checkout, command)
    return checkout


@pytest.mark.parametrize(
    "name",
    [
        "docs/study/tables.md",
        "benchmarks/study/summary.json",
        "docs/study/adventurers/tables.md",
        "benchmarks/study/summary-adventurers.json",
    ],
)
def test_what_is_shown_is_what_the_kept_result_says(reported: Path, name: str) -> None:
    """The page's last commands make it of the kept results, to the byte."""
    assert (reported / name).read_text() == (ROOT / name).read_text()


def test_the_summary_has_a_mean_and_an_interval_for_every_figure(reported: Path) -> None:
    """A concept counts once, whatever number of sets it is in; no cell of a method is missing."""
    found = json.loads((reported / "benchmarks" / "study" / "summary.json").read_text())
    result = json.loads((BENCHMARKS / "results" / "study-cpu-1.json").read_text())

    assert [*found["methods"]] == [*result["methods"]]
    for method, row in result["methods"].items():
        held = found["methods"][method]["cells"]
        for cell, kept in ((cell, kept) for cell, kept in row.items() if "@" in cell):
            for metric in ("loss", "gain", "retention", "functional_crosstalk", "weight_crosstalk"):
                assert (metric in held[cell]) == (metric in kept), (method, cell, metric)
                if metric in kept:
                    told = held[cell][metric]
                    assert told["low"] <= told["mean"] <= told["high"]
            by_concept: dict[str, list[float]] = {}
            for each in result["outcomes"]:
                size_and_lambda = f"{len(each['losses'])}@{each['lambda']:g}"
                if (each["method"], size_and_lambda) == (method, cell):
                    for concept, loss in each["losses"].items():
                        by_concept.setdefault(concept, []).append(loss)
            means = [sum(some) / len(some) for some in by_concept.values()]
            assert held[cell]["loss"]["mean"] == pytest.approx(sum(means) / len(means), abs=1e-6)
