"""The main job in one command: a coordinator, clients, a release, a consumer, as real processes.

Every step is the command that a user would type, run as a process of its own over TLS on loopback:
``coordinator init | serve | invite | release | link``, for each data owner ``client join | train |
score`` with a folder of its own, and for the consumer ``pull | verify``. The demo only starts
them, draws what they say and collects the numbers. All of it stays on the CPU, where the figures of
docs/log.md come from. What it measures: issue "the main job", retention as defined in
core/metrics.py. The pictures are client/report.py's.
"""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..assets import pocket_base, pocket_concepts
from ..core.errors import InputError
from ..core.spec import FederationSpec
from .demo_view import DemoView
from .home import write_whole
from .processes import Children
from .report import ReportRow, render_report

_MARK = ".orthofed-demo"
_NOUN = "person"
_AT_ONCE = 4
_LAMBDAS = (1.0, 0.6)
_SERVE_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """What the demo is asked to do."""

    concepts: int = 4  # clients, 1 to 12
    out: Path = Path("demo")
    seed: int = 0
    rank: int = 8  # columns a slot
    steps: int | None = None  # training steps a client; None: the trainer's default
    lambda_: float = 1.0  # merge weight of the release


def run_demo(settings: DemoSettings) -> dict[str, object]:
    """Run the whole federation, write report.json and report.html, return the former.

    Raises InputError: the number of concepts is out of bounds, or the folder is not a demo's.
    Raises OrthoFedError: a process failed; its own text is inside.
    """
    names = _choose(settings.concepts)
    out = _fresh_folder(settings.out)
    started_s = time.monotonic()
    with Children(out / "logs") as children, DemoView() as view:
        _open_federation(children, view, settings, out)
        trained = _teach(children, view, settings, out, names)
        release, verified = _publish_and_pull(children, view, out)
        _sample(children, view, out, names, release)
        scores = _score(children, view, out, names, release)
        view.says("report", "draws base, single and merged from the same noise")
        concepts = {name: {**trained[name], **scores[name]} for name in names}
        report: dict[str, object] = {
            "schema": "orthofed.demo/1",
            "lambda": settings.lambda_,
            "rank": settings.rank,
            "seed": settings.seed,
            "release": str(release),
            "verified": verified,
            "concepts": concepts,
        }
        _write_page(report, out, release)
        report["seconds"] = round(time.monotonic() - started_s, 1)
        view.says("report", str(out / "report.html"), done=1)
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def images_of(out: Path, name: str) -> Path:
    """Return the folder of images of the demo's data owner called ``name``."""
    return out / "owners" / name / "images"


def _choose(count: int) -> list[str]:
    names = sorted(path.name for path in pocket_concepts().iterdir() if path.is_dir())
    if not 1 <= count <= len(names):
        raise InputError(
            f"--concepts {count}, and there are 1 to {len(names)}",
            why=f"the package ships {len(names)} concepts",
            fix=f"choose a number from 1 to {len(names)}",
            code="concepts-out-of-range",
        )
    return names[:count]


def _fresh_folder(out: Path) -> Path:
    out = out.absolute()
    is_file = out.exists() and not out.is_dir()
    if is_file or (out.exists() and any(out.iterdir())):
        if not (out / _MARK).exists():
            raise InputError(
                f"{out} is {'no folder' if is_file else 'not empty and no demo made it'}",
                why="the demo empties its folder first",
                fix="give another folder with --out, or empty this one yourself",
                code="demo-folder-taken",
            )
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).touch()
    return out


def _open_federation(children: Children, view: DemoView, settings: DemoSettings, out: Path) -> None:
    """Init and serve: from here on the coordinator is a process of its own."""
    folder = str(out / "coordinator")
    view.says("coordinator", "makes the federation: spec, keys, TLS")
    init = ["coordinator", "init", folder, "--base", str(pocket_base()), "--name", "demo"]
    init += ["--rank", str(settings.rank), "--lambda", str(settings.lambda_)]
    init += ["--prompt", "a peeps drawing of {}, smiling, white background"]
    children.run(init)
    children.start(
        "coordinator", ["coordinator", "serve", folder, "--listen", "127.0.0.1:0", "--json"]
    )
    event = children.next_event(_SERVE_WAIT_S)
    if event is None or event.exit_code is not None:
        raise children.failure("coordinator", event.exit_code or 1 if event else 1)
    view.says("coordinator", f"listens on {event.body.get('address')}")


def _teach(
    children: Children, view: DemoView, settings: DemoSettings, out: Path, names: Sequence[str]
) -> dict[str, dict[str, object]]:
    """Let every owner join, train and upload; return the facts of each concept."""
    folder = str(out / "coordinator")
    # The operator's own invite: the base has 12 slots at rank 8, and one is kept for the operator.
    invite = children.run(
        ["coordinator", "invite", folder, "--uses", str(len(names)), "--operator"]
    )
    kept = out / "invite.txt"  # a secret is no argument of a command
    write_whole(kept, invite.encode())
    for name in names:
        shutil.copytree(pocket_concepts() / name, images_of(out, name))
        home = str(out / "owners" / name / "home")
        children.run(["client", "join", "--invite", str(kept), "--home", home])
        view.says(name, "joined; its images stay in its own folder")
    facts: dict[str, dict[str, object]] = {name: {} for name in names}
    waiting, running = list(names), set[str]()
    while waiting or running:
        while waiting and len(running) < _AT_ONCE:
            name = waiting.pop(0)
            children.start(name, _train_command(settings, out, name, len(facts) - len(waiting)))
            running.add(name)
        event = children.next_event(60.0)
        if event is None or event.name not in facts:
            continue
        if event.exit_code is None:
            view.event(event.name, event.body)
            _note(facts[event.name], event.body)
            continue
        if event.exit_code != 0:
            raise children.failure(event.name, event.exit_code)
        view.says(event.name, f"done, {facts[event.name].get('upload_bytes'):,} bytes sent", done=1)
        running.discard(event.name)
    return facts


def _train_command(settings: DemoSettings, out: Path, name: str, number: int) -> list[str]:
    owner = out / "owners" / name
    command = ["client", "train", "--concept", name, "--class-noun", _NOUN]
    command += ["--images", str(images_of(out, name)), "--base", str(pocket_base())]
    command += ["--home", str(owner / "home"), "--licence", "CC0-1.0", "--yes", "--json"]
    command += ["--seed", str(settings.seed * 1000 + number), "--device", "cpu"]
    if settings.steps is not None:
        command += ["--steps", str(settings.steps)]
    return command


def _note(facts: dict[str, object], body: Mapping[str, object]) -> None:
    """Keep from a client's events what the report needs."""
    wanted = {
        "leased": ("slot", "fence"),
        "trained": ("seconds",),
        "egress": ("upload_bytes", "lora_bytes"),
    }
    for key in wanted.get(str(body.get("event")), ()):
        facts[key] = body[key]


def _publish_and_pull(children: Children, view: DemoView, out: Path) -> tuple[Path, bool]:
    """Return the folder that the consumer pulled, and what `orthofed verify` said of it."""
    folder = str(out / "coordinator")
    view.says("coordinator", "adds the residuals and signs release 1")
    children.run(["coordinator", "release", folder])
    url = children.run(["coordinator", "link", folder]).strip()
    release = out / "consumer" / "release-1"
    view.says("consumer", "pulls the release")
    children.run(["pull", url, "-o", str(release)])
    said = json.loads(children.run(["verify", str(release), "--json"]))
    view.says("consumer", "verified every byte")
    return release, said["verified"]


def _sample(
    children: Children, view: DemoView, out: Path, names: Sequence[str], release: Path
) -> None:
    """Let the consumer draw every concept with the release's own pipeline."""
    grid = out / "consumer" / "grid.png"
    view.says("consumer", "draws every concept with the pulled pipeline")
    command = ["sample", str(release), "-o", str(grid), "--device", "cpu"]
    for name in names:
        command += ["--prompt", f"a peeps drawing of a {name}"]
    children.run(command)
    view.says("consumer", f"{len(names)} rows of samples in {grid}", done=1)


def _score(
    children: Children, view: DemoView, out: Path, names: Sequence[str], release: Path
) -> dict[str, dict[str, object]]:
    """Let every owner score its concept on the release, from its held-out images."""
    scores: dict[str, dict[str, object]] = {}
    waiting, running = list(names), set[str]()
    while waiting or running:
        while waiting and len(running) < _AT_ONCE:
            name = waiting.pop(0)
            view.says(name, "scores the merged model on its held-out images")
            children.start(name, _score_command(out, name, release))
            running.add(name)
        event = children.next_event(60.0)
        if event is None or event.name not in names:
            continue
        if event.exit_code is None:
            scores[event.name] = dict(event.body)
        elif event.exit_code != 0:
            raise children.failure(event.name, event.exit_code)
        else:
            retention = float(str(scores[event.name]["retention"]))
            view.says(event.name, f"retention {retention:.2f}", done=1)
            running.discard(event.name)
    return scores


def _score_command(out: Path, name: str, release: Path) -> list[str]:
    command = ["client", "score", "--concept", name, "--images", str(images_of(out, name))]
    command += ["--base", str(pocket_base()), "--home", str(out / "owners" / name / "home")]
    command += ["--release", str(release), "--device", "cpu", "--json"]
    for lambda_ in _LAMBDAS:
        command += ["--lambda", str(lambda_)]
    return command


def _write_page(report: Mapping[str, object], out: Path, release: Path) -> None:
    """Draw the pictures and write report.html. This is where the demo itself loads torch."""
    from .base import Base  # noqa: PLC0415  # torch: only now
    from .overview import overview  # noqa: PLC0415
    from .pictures import draw_report  # noqa: PLC0415

    spec = FederationSpec.from_bytes((release / "trust" / "spec.json").read_bytes())
    rows = report_rows(report)
    folders = [(row.name, images_of(out, row.name)) for row in rows]
    lambda_ = float(str(report["lambda"]))
    pictures = draw_report(
        Base.load(pocket_base()), spec, release, folders, noun=_NOUN, lambda_=lambda_
    )
    facts = (
        ("federation", spec.id),
        ("base", f"{spec.base.name}, fingerprint {spec.base.fingerprint[:16]}"),
        ("rank of a slot", str(report["rank"])),
        ("lambda of the release", f"{lambda_:g}"),
        ("release", "pulled, signature and every hash verified"),
    )
    page = render_report(rows, pictures, title="OrthoFed demo", facts=facts)
    (out / "report.html").write_text(page, encoding="utf-8")
    (out / "overview.png").write_bytes(overview(pictures))


def report_rows(report: Mapping[str, object]) -> list[ReportRow]:
    """Return the numbers of each concept from what report.json holds, in order of name."""
    concepts = report["concepts"]
    if not isinstance(concepts, dict):
        raise TypeError("report['concepts'] is a dict")
    return [
        ReportRow(
            name=name,
            slot=facts["slot"],
            retention=facts["retention"],
            retention_06=facts["by_lambda"]["0.6"]["retention"],
            loss_base=facts["loss_base"],
            loss_single=facts["loss_single"],
            loss_merged=facts["loss_merged"],
            train_s=facts["seconds"],
            upload_bytes=facts["upload_bytes"],
            lora_bytes=facts["lora_bytes"],
        )
        for name, facts in sorted(concepts.items())
    ]
