"""The main job as one command: real processes, real training, a report. Short, but whole."""

import json
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from .doc_make import ready_to_make
from .doc_runner import ROOT, console, declared, environment

pytestmark = pytest.mark.long

README = ROOT / "README.md"
CONCEPTS = 2


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Type README.md's `make demo` for two data owners, twelve steps each; return its folder."""
    folder = ready_to_make(tmp_path_factory.mktemp("demo"))
    for name in declared(README)["link"]:
        (folder / name).symlink_to(ROOT / name)
    (command,) = console(README)[0]
    assert command.typed == "make demo"
    out = folder / "out"
    done = subprocess.run(
        ["bash", "-c", command.typed],
        cwd=folder,
        env={**environment(folder), "DEMO": f"--concepts {CONCEPTS} --steps 12 --out {out}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (out / "stdout.txt").write_text(done.stdout)
    return out


def test_the_report_has_every_number_and_the_release_is_verified(demo: Path) -> None:
    """report.json: what was measured, for each concept and for the whole run."""
    report = json.loads((demo / "report.json").read_text())

    assert report["verified"] is True
    assert report["seconds"] > 0
    assert Path(report["release"], "manifest.json").exists()
    assert (demo / "consumer" / "grid.png").stat().st_size > 1000
    assert len(report["concepts"]) == CONCEPTS
    for facts in report["concepts"].values():
        assert facts["loss_base"] > 0
        assert facts["upload_bytes"] <= 0.55 * facts["lora_bytes"]
        assert {"retention", "loss_single", "loss_merged", "slot"} <= facts.keys()
    assert sorted(facts["slot"] for facts in report["concepts"].values()) == [0, 1]


def test_the_page_holds_all_its_pictures_itself(demo: Path) -> None:
    """report.html can be mailed: no script, no request to anywhere."""
    page = (demo / "report.html").read_text()

    assert page.count("data:image/png;base64,") >= CONCEPTS * 20
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_one_picture_shows_all_of_it(demo: Path) -> None:
    """Six columns, a row a concept, and it is not blank."""
    with Image.open(demo / "overview.png") as picture:
        width, height = picture.size
        colours = len(picture.convert("RGB").getcolors(width * height) or ())

    assert width > 6 * 128
    assert CONCEPTS * 128 < height < (CONCEPTS + 1) * 128
    assert colours > 100


def test_no_image_leaves_its_owner(demo: Path) -> None:
    """What the coordinator holds contains no training image and no caption of any client."""
    held = b"".join(
        path.read_bytes() for path in (demo / "coordinator").rglob("*") if path.is_file()
    )

    for image in (demo / "owners").glob("*/images/*.png"):
        assert image.read_bytes()[:200] not in held
    for caption in (demo / "owners").glob("*/images/*.txt"):
        assert caption.read_bytes().strip() not in held
