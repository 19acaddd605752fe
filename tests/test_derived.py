"""Files that a release need not hold: their hashes are signed, and anyone makes them again."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orthofed.client.base_folder import BaseFolder
from orthofed.client.contributions import Contributions
from orthofed.client.rebuild import Rebuild
from orthofed.client.verify import verify_folder
from orthofed.client.write_file import write_file
from orthofed.coordinator.folder import Settings
from orthofed.coordinator.merging import open_merge
from orthofed.coordinator.publications import Plan, newest
from orthofed.coordinator.releasing import publish_newest
from orthofed.core import canonical
from orthofed.core.basis_fingerprint import basis_fingerprint
from orthofed.core.derived_file import DerivedFile, derive, read_derived
from orthofed.core.errors import InputError, VerificationFailed
from orthofed.core.kinds import DERIVABLE, release_files
from orthofed.core.lorafile import FileOrigin
from orthofed.core.release import FileEntry

from .serving import Running, founded, running
from .test_rebuild import flip, pull

ALL = tuple(DERIVABLE)
FULL = "full/wren-fed-r0001-full.safetensors"


@pytest.fixture(scope="module", params=[ALL, ("full",)], ids=["all", "full"])
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """Two concepts; the release leaves out everything that it may, or the full file alone."""
    folder = founded(tmp_path_factory.mktemp("derived"), derive=request.param)
    with running(folder) as coordinator:
        for seed, name in enumerate(("anna", "rex")):
            member = coordinator.member()
            member.contribute(member.pack(member.lease(name, (f"{name}-k7",)), seed=seed))
        coordinator.release(614)
        yield coordinator


@pytest.fixture
def pulled(filled: Running, tmp_path: Path) -> Path:
    """Return the release as `orthofed pull --contributions` leaves it."""
    pull(filled, tmp_path / "release")
    return tmp_path / "release"


def _made(coordinator: Running, out: Path) -> dict[str, FileEntry]:
    """Write every kind that may be derived, from contributions and base, below ``out``."""
    spec, found = coordinator.house.facts.spec, coordinator.house.store.run(newest)
    assert found is not None
    base = BaseFolder(coordinator.folder.settings().base)
    origin = FileOrigin(spec, basis_fingerprint(spec, 0))
    with open_merge(spec, found.plan.included, coordinator.folder) as merge:
        files = release_files(merge, origin, base, n=1, kinds=DERIVABLE)
        return {file.name: write_file(out, file)[0] for file in files}


def _info(folder: Path) -> dict[str, list[dict[str, object]]]:
    return json.loads((folder / "info.json").read_bytes())


def test_a_checkpoint_without_a_component_gives_the_full_file_no_weights(
    filled: Running, tmp_path: Path
) -> None:
    """A base's index may leave one out, as tests' bases do: the file is as if made of the base."""
    _made(filled, tmp_path)
    (tmp_path / "checkpoint" / "text_encoder" / "model.safetensors").unlink()
    spec, found = filled.house.facts.spec, filled.house.store.run(newest)
    assert found is not None
    base, cut = BaseFolder(filled.folder.settings().base), BaseFolder(tmp_path / "checkpoint")
    origin = FileOrigin(spec, basis_fingerprint(spec, 0))
    with open_merge(spec, found.plan.included, filled.folder) as merge:
        one, other = (
            derive(merge, origin, base, n=1, kinds={"full"}, merged=merged)
            for merged in (cut, None)
        )

    assert [file.name for file in one] == [FULL]
    assert one == other


def test_what_is_left_out_is_said_with_the_hashes_of_the_files_that_are_made(
    filled: Running, tmp_path: Path
) -> None:
    """Each file of each kind: length, SHA-256 and, for tensors, the hash in the header."""
    made = _made(filled, tmp_path)
    folder = filled.folder.releases / "1"
    told = _info(folder)
    kinds = filled.folder.settings().derive

    there = {file["name"]: file for file in told["derived"]}
    assert {file["kind"] for file in told["derived"]} == set(kinds)
    assert not any((folder / str(name)).exists() for name in there)
    for name, entry in made.items():
        if name not in there:
            assert (folder / name).is_file()
            continue
        assert (there[name]["bytes"], there[name]["sha256"]) == (entry.bytes, entry.sha256)
        ours = name.endswith(".safetensors") and "/vae/" not in name  # that is the base's own
        assert ("tensors" in there[name]) == ours
    data = (tmp_path / FULL).read_bytes()
    body = data[8 + int.from_bytes(data[:8], "little") :]
    assert there[FULL]["tensors"] == hashlib.sha256(body).hexdigest()


def test_a_checkpoint_that_was_written_gives_the_same_full_file(
    filled: Running, tmp_path: Path
) -> None:
    """Copied from ``checkpoint/`` or computed: one set of hashes."""
    made = _made(filled, tmp_path)
    spec, found = filled.house.facts.spec, filled.house.store.run(newest)
    assert found is not None
    base = BaseFolder(filled.folder.settings().base)
    origin = FileOrigin(spec, basis_fingerprint(spec, 0))
    with open_merge(spec, found.plan.included, filled.folder) as merge:
        (copied,) = derive(
            merge,
            origin,
            base,
            n=1,
            kinds={"full"},
            merged=BaseFolder(tmp_path / "checkpoint"),
        )
        (computed,) = derive(merge, origin, base, n=1, kinds={"full"})

    assert copied == computed
    assert copied.sha256 == made[FULL].sha256


def test_a_derived_file_may_be_there_and_then_is_checked(
    filled: Running, pulled: Path, tmp_path: Path
) -> None:
    """Absent: fine. Present: to the byte. Another name beside it: one file too many."""
    assert verify_folder(pulled).num_made == 0
    _made(filled, tmp_path / "made")
    (pulled / "full").mkdir()
    shutil.copy(tmp_path / "made" / FULL, pulled / FULL)

    assert verify_folder(pulled).num_made == 1
    flip(pulled / FULL, -1)
    with pytest.raises(VerificationFailed, match="SHA-256"):
        verify_folder(pulled)
    (pulled / FULL).write_bytes(b"")
    with pytest.raises(VerificationFailed, match="0 bytes"):
        verify_folder(pulled)
    (pulled / FULL).rename(pulled / "full" / "other.safetensors")
    with pytest.raises(VerificationFailed, match="is not part of the release"):
        verify_folder(pulled)


def test_a_rebuild_makes_what_is_derived_and_compares_it(filled: Running, pulled: Path) -> None:
    """The operator signs another hash: the folder verifies, the rebuild refuses (T25)."""
    release = verify_folder(pulled).release
    base = BaseFolder(filled.folder.settings().base)
    assert Rebuild(Contributions(pulled, release)).run(base) > 0
    info = pulled / "info.json"
    told = _info(pulled)
    for file in told["derived"]:
        if file["kind"] == "full":
            file["sha256"] = "0" * 64
    info.write_bytes(canonical.encode(told))

    with pytest.raises(VerificationFailed, match=r"full.*derived with other hashes"):
        Rebuild(Contributions(pulled, release)).run(base)


def test_a_release_of_an_earlier_version_is_rebuilt_by_the_kinds_that_it_lists(
    filled: Running, pulled: Path
) -> None:
    """No `derived`, no a1111, diffusers, peft: what it lists is compared, and is enough."""
    release = verify_folder(pulled).release
    base = BaseFolder(filled.folder.settings().base)
    told = _info(pulled)
    told.pop("derived")
    new = {f["name"] for f in told["files"] if f["kind"] in {"a1111", "diffusers", "peft"}}
    new |= {"peft/unet/adapter_config.json", "peft/text_encoder/adapter_config.json"}
    told["files"] = [file for file in told["files"] if file["name"] not in new]
    (pulled / "info.json").write_bytes(canonical.encode(told))
    files = tuple(entry for entry in release.manifest.files if entry.name not in new)
    old = replace(release, manifest=replace(release.manifest, files=files))

    rebuild = Rebuild(Contributions(pulled, old))
    if filled.folder.settings().derive == ALL:
        assert rebuild.run(base) > 0
        return
    with pytest.raises(VerificationFailed) as caught:  # the card lists the files of before
        rebuild.run(base)

    assert "card.md differs" in caught.value.what
    assert "every file of numbers and info.json follow" in caught.value.what


def test_a_setting_names_kinds_that_consumers_can_make(filled: Running) -> None:
    """LoRA, concepts and vectors are always published; what is given comes back from the file."""
    path = filled.folder.settings_file
    kept = path.read_text()
    settings = filled.folder.settings()

    for wrong in ('["lora"]', '"full"', "[[]]", "[1]"):
        path.write_text(re.sub("(?m)^derive = .*$", f"derive = {wrong}", kept))
        with pytest.raises(InputError, match="derive is a list of a1111, checkpoint"):
            Settings.read(path)
    path.write_text(re.sub("(?m)^derive = .*\n", "", kept))
    assert Settings.read(path).derive == ("full",)
    path.write_text(settings.to_toml())
    assert Settings.read(path).derive == settings.derive


@pytest.mark.parametrize("filled", [ALL], indirect=True)
def test_pictures_need_the_checkpoint(filled: Running) -> None:
    """`--samples` draws from it: where it is left out, the command ends before a plan."""
    with pytest.raises(InputError, match="leaves out the checkpoint"):
        publish_newest(
            filled.folder,
            filled.desk,
            lambda_1024=None,
            resume=False,
            say=lambda _: None,
            draw=lambda *_: {},
        )
    assert not filled.desk.ask("status", {})["plan_open"]


def test_a_plan_of_an_earlier_version_derives_the_full_file(filled: Running) -> None:
    """Its rows in the database do not say."""
    found = filled.house.store.run(newest)
    assert found is not None
    said = json.loads(found.plan.to_bytes())
    del said["derived"]

    assert Plan.from_bytes(json.dumps(said).encode()).derived == ("full",)
    assert Plan.from_bytes(found.plan.to_bytes()) == found.plan


GOOD = DerivedFile("full/a-full.safetensors", "full", 9, "ab" * 32, "cd" * 32).body()


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../full/a.safetensors"},
        {"name": "full/../../a.safetensors"},
        {"name": "trust/log"},
        {"name": "checkpoint/a.safetensors"},
        {"name": "full/con.safetensors"},
        {"name": "full/there.safetensors"},
        {"kind": "lora"},
        {"kind": "made-up"},
        {"bytes": -1},
        {"sha256": "ab"},
        {"tensors": ""},
        {"more": 1},
    ],
)
def test_an_entry_that_could_do_harm_is_refused(change: dict[str, object]) -> None:
    """T10: a name that leads out, takes another file's place, or lies in another kind's folder."""
    there = ["full/there.safetensors"]
    assert len(read_derived(canonical.encode({"derived": [GOOD]}), there)) == 1

    with pytest.raises(VerificationFailed):
        read_derived(canonical.encode({"derived": [{**GOOD, **change}]}), there)


@pytest.mark.parametrize("derived", [[], [GOOD, GOOD], {}, [1]])
def test_a_list_that_is_none_is_refused(derived: object) -> None:
    """Empty, twice the same, no list, no objects; where nothing is derived there is no field."""
    with pytest.raises(VerificationFailed):
        read_derived(canonical.encode({"derived": derived}), [])
    assert read_derived(canonical.encode({}), []) == ()
