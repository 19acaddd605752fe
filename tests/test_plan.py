"""`orthofed plan`: what fits, what it weighs, and that init founds just that."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from orthofed.client.training_settings import TrainingSettings
from orthofed.coordinator.kept import KEPT
from orthofed.coordinator.planning import Planned
from orthofed.core.published import PUBLISHED, PublishedModel, published_layers
from orthofed.core.spec import FederationSpec, plan_spec
from orthofed.core.targets import TARGETS, Targets

from .coordinator_process import run
from .doc_runner import ROOT
from .test_spec import BASE, TEXT
from .tiny_base import tiny_base


def _plan(*options: str) -> dict[str, Any]:
    return json.loads(run("plan", *options, "--json").stdout)


def test_the_example_of_the_help_shows_slots_widths_and_bytes() -> None:
    """SD1.5 with everything adapted at rank 20 (method.md 4.1 for the rule)."""
    shown = run("plan", "--family", "sd15", "--targets", "all", "--rank", "20").stdout

    assert shown.splitlines()[:2] == [" width  layers  rank  slots", "   320      46    20     16"]
    *sums, then = shown.partition("\n\nof what a concept learns")[0].splitlines()[-5:]
    assert sums == [
        "layers  350      278 unet, 72 text_encoder",
        "slots   16       one concept each; the narrowest layers decide",
        "upload  15.9 MB  a concept, once",
        "LoRA    48.7 MB  a concept in a release, F16",
    ]
    assert then == (
        "then    32       with --overlap 2: each further one shares 6.2% of its directions with"
        " each of the 16, at width 320 alone"
    )


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("model", PUBLISHED)
def test_a_published_model_is_planned_as_its_spec_would_be(
    model: PublishedModel, targets: Targets
) -> None:
    """Ranks and capacity are the spec's own, every width has a basis, and a spec can be read."""
    spec = plan_spec(
        name="toy-fed",
        base=BASE,
        layers=published_layers(model, targets),
        encoders=TEXT,
        seed=bytes(32),
        capacity=32,
    )

    assert FederationSpec.from_bytes(spec.to_bytes()) == spec
    assert min(m // rank for m, rank in spec.ranks) >= spec.capacity == 32


def test_xl_with_convolutions_keeps_its_slots_when_they_are_asked_for() -> None:
    """One shortcut of width 320 would halve them: its rank falls instead."""
    by_rank, by_slots = (
        _plan("--family", "sdxl", "--targets", "all", *wish)
        for wish in (("--rank", "20"), ("--capacity", "32"))
    )

    assert (by_rank["slots"], by_slots["slots"]) == (16, 32)
    assert by_slots["widths"][0] == {"width": 320, "layers": 1, "rank": 8, "slots": 40}
    assert {width["rank"] for width in by_slots["widths"][1:]} == {20}
    assert by_rank["components"] == {"unet": 788, "text_encoder": 72, "text_encoder_2": 192}


@pytest.mark.parametrize("targets", TARGETS)
def test_init_founds_what_was_planned_on_the_same_folder(targets: Targets, tmp_path: Path) -> None:
    """Same options, same layers, ranks, slots and bytes; the spec keeps the list."""
    base = tiny_base(tmp_path / "base")
    options = ("--base", str(base), "--targets", targets, "--rank", "3")

    planned = _plan(*options)
    made = json.loads(
        run(
            "coordinator", "init", str(tmp_path / "fed"), *options, "--name", "tiny", "--json"
        ).stdout
    )

    assert (planned["slots"], planned["layers"]) == (made["capacity"], made["layers"])
    assert planned["upload_bytes"] == made["upload_bytes"]
    assert {str(x["width"]): x["rank"] for x in planned["widths"]} == made["ranks"]
    spec = FederationSpec.from_bytes((tmp_path / "fed" / "public" / "spec.json").read_bytes())
    assert len(spec.layers) == planned["layers"]
    assert any(layer.kernel for layer in spec.layers) == (targets == "all")


def test_init_says_by_what_name_the_base_will_be_public(tmp_path: Path) -> None:
    """A folder's name may be private; every header of every file will have it."""
    base = tiny_base(tmp_path / "annas-base")
    fixed = ("--base", str(base), "--name", "tiny", "--rank", "3")

    said = run("coordinator", "init", str(tmp_path / "fed"), *fixed).stdout
    named = run("coordinator", "init", str(tmp_path / "b"), *fixed, "--base-name", "sd-tiny").stdout

    assert "names the base model 'annas-base'; --base-name" in said
    assert "names the base model 'sd-tiny'" in named


@pytest.mark.parametrize("options", [(), ("--family", "sd15", "--base", ".")])
def test_a_plan_is_for_exactly_one_model(options: tuple[str, ...]) -> None:
    """Exit code 2, with what to give."""
    done = run("plan", *options, check=False)

    assert done.returncode == 2
    assert "--base FOLDER or --family" in done.stderr


def test_a_rank_that_does_not_fit_is_told_with_the_narrowest_layer() -> None:
    """Not zero slots: a reason."""
    done = run("plan", "--family", "sd15", "--rank", "321", check=False)

    assert done.returncode == 2
    assert "the narrowest 320" in done.stderr


def test_the_table_in_the_documents_is_what_the_command_prints() -> None:
    """docs/base-models.md, a row a preset and a column a model, at rank 20."""
    page = (Path(__file__).parents[1] / "docs" / "base-models.md").read_text()
    for targets in TARGETS:
        cells = []
        for model in PUBLISHED:
            plan = Planned.of(
                published_layers(model, targets), targets=targets, rank=20, capacity=None
            )
            sizes = f"{plan.upload_bytes / 1e6:.1f} / {plan.concept_bytes / 1e6:.1f}"
            cells.append(f"{len(plan.layers)} / {plan.slots} / {sizes}")

        assert f"| `{targets}` | {' | '.join(cells)} |" in page


def test_the_price_of_overlap_is_told_width_by_width() -> None:
    """method.md 4.3 at m = 320, r = 20; what is measured is the formula's, of another seed."""
    told = _plan("--family", "sd15", "--rank", "20", "--overlap", "4")
    overlap = told["overlap"]
    narrow, *_, wide = overlap["widths"]
    shown = run("plan", "--family", "sd15", "--rank", "20", "--overlap", "4").stdout

    assert (told["slots"], overlap["disjoint_slots"]) == (64, 16)
    assert {at["concepts"]: at["heard"] for at in narrow["stages"]} == {
        16: 0, 17: 0.117647, 32: 1, 48: 2, 64: 3,
    }  # fmt: skip
    assert [narrow["stages"][-1][key] for key in ("least", "drawn", "next_adds")] == [3, 3.9375, 0]
    assert narrow["expected"] == pytest.approx(narrow["measured"], rel=1e-6) == 0.0625
    assert narrow["measured"] < narrow["largest"] < 2 * narrow["measured"]
    assert (wide["disjoint_slots"], wide["measured"], wide["stages"][-1]["heard"]) == (64, 0, 0)
    assert "of 64 slots the first 16 share nothing" in shown
    assert "   320        17      6.25%   0.12   0.06   1.00" in shown
    assert "  1280        64         0         0        0" in shown
    assert "then " not in shown
    assert "overlap" not in _plan("--family", "sd15", "--overlap", "4", "--capacity", "12")
    fewer = run("plan", "--family", "sd15", "--capacity", "12").stdout
    assert "--overlap" not in fewer, "12 of 16 are asked for: what comes next is a thirteenth"


def test_as_many_concepts_as_are_asked_for_overlap_no_more_than_they_must() -> None:
    """40 in two bases of 20 at rank 16 in the narrowest layers, instead of rank 4 in one."""
    one, two = (
        _plan("--family", "sd15", "--capacity", "80", *more) for more in ((), ("--overlap", "2"))
    )

    assert (one["slots"], two["slots"]) == (80, 80)
    assert [width["rank"] for width in one["widths"]] == [4, 8, 8, 16]
    assert [width["rank"] for width in two["widths"]] == [8, 16, 16, 20]
    assert "overlap" not in one
    assert [w["disjoint_slots"] for w in two["overlap"]["widths"]] == [40, 40, 48, 64]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--overlap", "0"), "0 bases"),
        (("--overlap", "17"), "1 to 16"),
        (("--overlap", "2", "--capacity", "2000"), "at most"),
    ],
)
def test_an_overlap_that_cannot_be_is_refused_with_value_and_bound(
    options: tuple[str, ...], told: str
) -> None:
    done = run("plan", "--family", "sd15", *options, check=False)

    assert done.returncode == 2
    assert told in done.stderr


def test_init_founds_the_overlap_that_was_planned_and_says_what_shares_nothing(
    tmp_path: Path,
) -> None:
    """Twelve slots of rank 4 on the tiny base; other bases and quiet columns are refused."""
    base = tiny_base(tmp_path / "base")
    options = ("--base", str(base), "--rank", "4", "--overlap", "2")
    fixed = (*options, "--name", "tiny")

    planned = _plan(*options)
    said = run("coordinator", "init", str(tmp_path / "fed"), *fixed)

    spec = FederationSpec.from_bytes((tmp_path / "fed" / "public" / "spec.json").read_bytes())
    assert (spec.capacity, spec.epochs, spec.disjoint_slots) == (planned["slots"], 2, 6)
    assert "slots 0 to 5 share nothing and are leased first" in said.stdout
    assert "the first 6 share nothing" in run("coordinator", "status", str(tmp_path / "fed")).stdout
    for more, told in (
        (("--basis", "haar"), "choose the basis hadamard"),
        (("--basis", "gaussian"), "choose the basis hadamard"),
        (("--quiet-columns", "shipped"), "leave either the overlap or the quiet columns out"),
    ):
        done = run("coordinator", "init", str(tmp_path / "other"), *fixed, *more, check=False)
        assert done.returncode == 2
        assert told in done.stderr
    done = run("plan", *options, "--quiet-columns", "shipped", check=False)
    assert done.returncode == 2
    assert "leave either the overlap or the quiet columns out" in done.stderr


def test_what_a_plan_says_is_kept_is_what_the_study_measured() -> None:
    """Each number is the summaries', to two places, and the first rows are of the default."""
    names = {"well known": "summary.json", "little known": "summary-adventurers.json"}
    for row in KEPT:
        study = json.loads((ROOT / "benchmarks" / "study" / names[row.style]).read_text())
        cells = study["methods"][row.method]["cells"]
        for count, share in row.retention.items():
            found = cells[f"{count}@{row.lambda_:g}"]["retention"]["mean"]
            assert share == round(found, 2), (row.title, count)

    default = next(f.default for f in fields(TrainingSettings) if f.name == "null_weight")
    assert KEPT[0].null_weight == default
    for row in KEPT:
        words = "layered_" if row.layerwise else ""
        assert row.method.startswith(f"hadamard_{words}null{row.null_weight}_slow")

    told = _plan("--family", "sd15", "--rank", "20")["kept"]

    assert [row["retention"] for row in told] == [
        {str(n): share for n, share in row.retention.items()} for row in KEPT
    ]
