"""Sample pictures in a release: drawn from it, signed, pulled, checked, not rebuilt."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from orthofed.client.base_folder import BaseFolder
from orthofed.client.contributions import Contributions
from orthofed.client.rebuild import Rebuild
from orthofed.client.verify import check_header, verify_folder
from orthofed.coordinator.picturing import drawn
from orthofed.coordinator.releasing import publish_newest
from orthofed.core.errors import OrthoFedError, VerificationFailed
from orthofed.core.release import FileEntry
from orthofed.core.sample_picture import check_picture, picture_name
from orthofed.core.spec import PROMPT

from .coordinator_process import run
from .serving import Running, founded, running
from .test_partial_pull import contributed, names, pull
from .test_sample_picture import GOOD, with_text
from .tiny_families import tiny_sdxl

PICTURES = {"samples/anna.png", "samples/bert.png"}


def release_with_pictures(coordinator: Running) -> None:
    publish_newest(
        coordinator.folder,
        coordinator.desk,
        lambda_1024=None,
        resume=False,
        say=lambda _: None,
        draw=drawn,
    )


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two concepts, released with pictures, then a third, released without."""
    with running(founded(tmp_path_factory.mktemp("pictures"))) as coordinator:
        member = coordinator.member()
        for seed, name in enumerate(("anna", "bert")):
            contributed(member, name, seed)
        release_with_pictures(coordinator)
        contributed(member, "carl", 3)
        coordinator.release()
        yield coordinator


@pytest.fixture(scope="module")
def pulled(filled: Running, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pulled") / "out"
    pull(filled, out, "--release", "1", "--contributions")
    return out


def rebuilt(filled: Running, folder: Path) -> int:
    release = verify_folder(folder).release
    return Rebuild(Contributions(folder, release)).run(BaseFolder(filled.folder.settings().base))


def test_each_concept_has_a_picture_of_pixels_that_the_card_shows(pulled: Path) -> None:
    """Of the model's own size, each another, linked where it lies."""
    card = (pulled / "card.md").read_text()
    found = {name for name in names(pulled) if name.startswith("samples/")}

    assert found == PICTURES
    for name in found:
        check_picture((pulled / name).read_bytes())
        with Image.open(pulled / name) as image:
            assert (image.size, image.info) == ((16, 16), {})
    assert len({(pulled / name).read_bytes() for name in found}) == 2
    assert "| `a photo of anna-k7` | ![anna](samples/anna.png) |" in card
    assert (pulled / "card.md").parent.joinpath("samples/anna.png").is_file()


def test_they_are_what_orthofed_sample_draws_of_the_release(pulled: Path, tmp_path: Path) -> None:
    """The same command by hand, on the same machine: the same bytes."""
    said = run("sample", "--card", str(pulled), "-o", str(tmp_path / "x"), "--json").stdout

    assert [Path(name).name for name in json.loads(said)["files"]] == ["anna.png", "bert.png"]
    for name in PICTURES:
        again = tmp_path / "x" / Path(name).name
        assert again.read_bytes() == (pulled / name).read_bytes()


def test_a_rebuild_is_exact_beside_them_and_says_so(filled: Running, pulled: Path) -> None:
    """Every other byte is compared; the pictures' hashes were, as signed."""
    sizes = {name: (pulled / name).stat().st_size for name in names(pulled)}
    derived = sum(
        size
        for name, size in sizes.items()
        if not name.startswith(("samples/", "trust/", "manifest.json", "contributions/"))
    )
    base = str(filled.folder.settings().base)

    told = run("verify", str(pulled), "--rebuild", "--base", base).stdout

    assert rebuilt(filled, pulled) == derived
    assert "2 contributions, but 2 sample pictures: those are as signed" in told


def test_no_picture_is_made_or_taken_of_a_concept_whose_owner_did_not_say_so(
    tmp_path: Path,
) -> None:
    """T25: bert's manifest says nothing; a coordinator that signs bert's picture is found out."""
    with running(founded(tmp_path)) as coordinator:
        member = coordinator.member()
        contributed(member, "anna", 1)
        member.contribute(member.pack(member.lease("bert", ("bert-k7",)), seed=2))
        release_with_pictures(coordinator)
        pull(coordinator, tmp_path / "out", "--contributions")
        base = BaseFolder(coordinator.folder.settings().base)

    release = verify_folder(tmp_path / "out").release
    more = FileEntry("samples/bert.png", 1, "ab" * 32, ("ab" * 32,))
    files = tuple(sorted([*release.manifest.files, more], key=lambda file: file.name))
    told = replace(release, manifest=replace(release.manifest, files=files))

    assert {name for name in names(tmp_path / "out") if "samples" in name} == {"samples/anna.png"}
    assert "bert.png" not in (tmp_path / "out" / "card.md").read_text()
    with pytest.raises(VerificationFailed, match="bert"):
        Rebuild(Contributions(tmp_path / "out", told)).run(base)


@pytest.mark.parametrize("harm", ["flipped", "missing", "one more"])
def test_verify_finds_a_changed_picture(harm: str, pulled: Path, tmp_path: Path) -> None:
    """formats.md 1, law 8."""
    folder = Path(shutil.copytree(pulled, tmp_path / "out"))
    path = folder / "samples" / "anna.png"
    if harm == "flipped":
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    elif harm == "missing":
        path.unlink()
    else:
        (folder / "samples" / "zoe.png").write_bytes(GOOD)

    assert run("verify", str(folder), check=False).returncode == 4


def test_a_signed_file_with_metadata_or_of_no_concept_is_refused(
    filled: Running, pulled: Path, tmp_path: Path
) -> None:
    """T25: the coordinator itself signs it; every picture is read, a rebuild asks for its name."""
    folder = Path(shutil.copytree(pulled, tmp_path / "out"))
    release = verify_folder(folder).release
    path = folder / "samples" / "anna.png"
    path.write_bytes(with_text())
    more = FileEntry("samples/zoe.png", 1, "ab" * 32, ("ab" * 32,))
    files = tuple(sorted([*release.manifest.files, more], key=lambda file: file.name))
    told = replace(release, manifest=replace(release.manifest, files=files))
    base = BaseFolder(filled.folder.settings().base)

    with pytest.raises(VerificationFailed, match="chunks"):  # as pull and verify do
        check_header(path, "samples/anna.png")
    with pytest.raises(VerificationFailed, match="chunks"):
        Rebuild(Contributions(folder, release)).run(base)
    shutil.copy(pulled / "samples" / "anna.png", path)
    with pytest.raises(VerificationFailed, match="zoe"):
        Rebuild(Contributions(folder, told)).run(base)


def test_a_part_of_a_release_has_its_pictures_and_a_composition_none(
    filled: Running, tmp_path: Path
) -> None:
    """They come with the card that shows them; what is composed at home was never drawn."""
    pull(filled, tmp_path / "part", "--release", "1", "--as", "diffusers")
    pull(filled, tmp_path / "mix", "--release", "1", "--concept", "anna")

    assert names(tmp_path / "part") >= PICTURES
    assert not any(name.startswith("samples/") for name in names(tmp_path / "mix"))
    assert "samples/" not in (tmp_path / "mix" / "card.md").read_text()
    run("verify", str(tmp_path / "part"))
    run("verify", str(tmp_path / "mix"))


def test_the_next_release_has_none_unless_it_is_asked(filled: Running) -> None:
    """The operator says it each time."""
    folder = filled.folder.releases / "2"

    assert not (folder / "samples").exists()
    assert "## Samples" not in (folder / "card.md").read_text()


def test_what_cannot_be_drawn_ends_the_release_with_a_next_step(
    filled: Running, tmp_path: Path
) -> None:
    """A folder without a pipeline: the process says why on stderr, and the error what to do."""
    with pytest.raises(OrthoFedError) as caught:
        drawn(tmp_path, ["anna"])

    assert caught.value.code == "no-pictures"
    assert "without --samples" in caught.value.fix
    assert picture_name("anna") in PICTURES
    assert filled.folder.releases.is_dir()


@pytest.mark.filterwarnings(  # diffusers' Euler scheduler, with numpy 2
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
@pytest.mark.parametrize(
    "how", [{"make": tiny_sdxl}, {"layerwise_tokens": True}], ids=["sdxl", "layer-wise"]
)
def test_other_models_and_layer_wise_words_are_drawn_too(
    how: dict[str, Any], tmp_path: Path
) -> None:
    """Two text encoders, and words that no other program loads."""
    with running(founded(tmp_path, **how)) as coordinator:
        contributed(coordinator.member(), "anna", 1)
        release_with_pictures(coordinator)
        folder = coordinator.folder.releases / "1"

    check_picture((folder / "samples" / "anna.png").read_bytes())
    assert "(samples/anna.png)" in (folder / "card.md").read_text()


@pytest.mark.filterwarnings(  # diffusers' Euler scheduler, with numpy 2
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
def test_a_base_is_asked_in_its_own_style(tmp_path: Path) -> None:
    """The prompt of the spec stands on the card and in info.json, and another picture is drawn."""
    own, drawn = "a peeps drawing of {}, smiling", []
    for name, prompt in (("plain", PROMPT), ("own", own)):
        with running(founded(tmp_path / name, prompt=prompt)) as coordinator:
            contributed(coordinator.member(), "anna", 1)
            release_with_pictures(coordinator)
            folder = coordinator.folder.releases / "1"
        drawn.append((folder / "samples" / "anna.png").read_bytes())

    card = (folder / "card.md").read_text()
    assert "| `a peeps drawing of anna-k7, smiling` | ![anna](samples/anna.png) |" in card
    assert 'instance_prompt: "a peeps drawing of anna-k7, smiling"' in card
    assert json.loads((folder / "info.json").read_bytes())["prompt"] == own
    assert drawn[0] != drawn[1]


def test_a_card_has_prompts_of_its_own(pulled: Path, tmp_path: Path) -> None:
    """--card with --prompt is refused, and a folder that is no release."""
    both = run("sample", "--card", str(pulled), "--prompt", "x", check=False)
    none = run("sample", "--card", str(tmp_path), check=False)

    nobody = run("sample", "--card", str(pulled), "--concept", "zoe", check=False)

    assert both.returncode == none.returncode == nobody.returncode == 2
    assert "leave out one of the two" in both.stderr
    assert "is no release" in none.stderr
    assert "no concept 'zoe'" in nobody.stderr
