"""`orthofed pull --concept --weight`: exact at home, signed by nobody, derived anew by verify."""

import json
import shutil
from pathlib import Path

import pytest

from orthofed.client.composition import weight_1024
from orthofed.client.verify import verify_folder
from orthofed.core.errors import InputError

from .coordinator_process import run
from .serving import Running, founded, running


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Three concepts, one of them with two triggers; release 1 at weight 614/1024."""
    with running(founded(tmp_path_factory.mktemp("shared"))) as coordinator:
        member = coordinator.member()
        for seed, name in enumerate(("anna", "bert", "cleo")):
            triggers = (f"{name}-k7", f"{name}-p2")[: 1 + seed % 2]
            member.contribute(member.pack(member.lease(name, triggers), seed=seed))
        coordinator.release(614)
        yield coordinator


@pytest.fixture(scope="module")
def composed(shared: Running, tmp_path_factory) -> Path:
    """Anna at .8 and Bert at the release's weight."""
    out = tmp_path_factory.mktemp("composed") / "out"
    compose(shared, out, "--concept", "anna", "--concept", "bert", "--weight", "anna=0.8")
    return out


def compose(coordinator: Running, out: Path, *words: str, check: bool = True):
    home = ("--home", str(out.parent / "home"), "--patience", "10", "--json")
    return run("pull", coordinator.desk.link(), "-o", str(out), *words, *home, check=check)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_all_at_the_releases_weights_are_the_releases_own_bytes(shared, tmp_path):
    """Composed at home from the contributions: the same names, the same bytes."""
    compose(
        shared, tmp_path / "out", *(w for n in ("cleo", "anna", "bert") for w in ("--concept", n))
    )

    made, published = files(tmp_path / "out"), files(shared.folder.releases / "1")
    kinds = ("lora", "concepts", "embeddings", "diffusers", "peft")
    adapters = [name for name in made if name.split("/")[0] in kinds]
    assert len(adapters) == 2 + 3 + 4 + 1 + 2 * 2
    for name in adapters:
        assert made[name] == published[name]


def test_a_concepts_own_file_does_not_depend_on_the_others(shared, composed):
    """Bert at the release's weight, beside fewer: his file is the published one."""
    published = files(shared.folder.releases / "1")

    assert (
        files(composed)["concepts/wren-fed-bert.safetensors"]
        == (published["concepts/wren-fed-bert.safetensors"])
    )
    assert (
        files(composed)["concepts/wren-fed-anna.safetensors"]
        != (published["concepts/wren-fed-anna.safetensors"])
    )


def test_it_is_not_to_be_mistaken_for_the_release(composed):
    """The stacked file's name, the card and the absence of a manifest say so."""
    stacked, bundle = sorted((composed / "lora").iterdir(), key=lambda path: len(path.name))

    assert stacked.name.startswith("wren-fed-r0001-mix-")
    assert bundle.stem == f"{stacked.stem}-a1111"
    assert not (composed / "manifest.json").exists()
    assert "composed from release 1, signed by nobody" in (composed / "card.md").read_text()
    assert not (composed / "concepts" / "wren-fed-cleo.safetensors").exists()
    assert not (composed / "trust" / "contributions" / "7.safetensors").exists()


def test_verify_says_what_it_is(composed):
    """Exit code 0, the weights in 1024ths, and that nobody signed it."""
    told = json.loads(run("verify", str(composed), "--json").stdout)
    text = run("verify", str(composed)).stdout

    assert told["weights_1024"] == {"anna": 819, "bert": 614}
    assert "signed by nobody" in text
    assert "anna  weight 819/1024 = 0.7998" in text


def changed_weight(folder: Path) -> None:
    path = folder / "composition.json"
    path.write_bytes(path.read_bytes().replace(b'"lambda":819', b'"lambda":820'))


def without_bert(folder: Path) -> None:
    path, value = folder / "composition.json", None
    value = json.loads(path.read_bytes())
    value["contributions"].pop()
    path.write_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def another_leaf(folder: Path) -> None:
    path = folder / "composition.json"
    value = json.loads(path.read_bytes())
    value["contributions"][0]["leaf"] = 2
    path.write_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def flipped(pattern: str):
    def change(folder: Path) -> None:
        path = next(iter(sorted(folder.glob(pattern))))
        data = bytearray(path.read_bytes())
        data[-2] ^= 1
        path.write_bytes(data)

    return change


def removed(pattern: str):
    return lambda folder: next(iter(sorted(folder.glob(pattern)))).unlink()


CHANGES = {
    "a weight": changed_weight,
    "a contribution left out": without_bert,
    "a leaf that is no contribution": another_leaf,
    "a byte of the stacked file": flipped("lora/*"),
    "a byte of a concept": flipped("concepts/*"),
    "a byte of a vector": flipped("embeddings/*"),
    "a byte of a contribution": flipped("trust/contributions/*"),
    "a byte of the card": flipped("card.md"),
    "a byte of info.json": flipped("info.json"),
    "a byte of the manifest": flipped("trust/manifest.json"),
    "a byte of the published file": flipped("trust/published.safetensors"),
    "no stacked file": removed("lora/*"),
    "no contribution": removed("trust/contributions/*"),
    "no card": removed("card.md"),
    "a file more": lambda folder: (folder / "extra.txt").write_text("x"),
    "a concept more": lambda folder: (folder / "trust/contributions/9.safetensors").write_text("x"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_folder_that_does_not_follow_is_refused(change, composed, tmp_path):
    """T4, T16: whatever is changed, added or removed: exit code 4."""
    shutil.copytree(composed, tmp_path / "out")
    change(tmp_path / "out")

    done = run("verify", str(tmp_path / "out"), check=False)

    assert done.returncode == 4, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--concept", "dora"), "no-such-concept"),
        (("--concept", "anna", "--weight", "bert=1"), "no-such-concept"),
        (("--weight", "anna=2.1"), "bad-weight"),
        (("--weight", "anna=-1"), "bad-weight"),
        (("--weight", "anna=nan"), "bad-weight"),
        (("--weight", "anna"), "bad-weight"),
        (("--weight", "anna=1", "--weight", "anna=2"), "bad-weight"),
        (("--concept", "anna", "--base", "x"), "bad-option"),
    ],
)
def test_a_choice_that_cannot_be_is_wrong_usage(words, code, shared, tmp_path):
    """Exit code 2, what there is to choose from, and nothing under a final name."""
    done = compose(shared, tmp_path / "out", *words, check=False)

    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == code
    assert not (tmp_path / "out" / "lora").exists()


@pytest.mark.parametrize(
    ("text", "share"), [("0", 0), ("2", 2048), ("0.00048828125", 0), ("0.00146484375", 2)]
)
def test_a_weight_is_rounded_to_the_nearest_and_even_1024th(text, share):
    """Half a 1024th goes to the even neighbour, down and up."""
    assert weight_1024(text) == share


def test_a_weight_that_is_no_number_is_said():
    """The text stands in the error."""
    with pytest.raises(InputError, match="strong"):
        weight_1024("strong")


def test_a_refused_pull_pins_its_folder_to_no_release(tmp_path):
    """Dora comes with release 2: the very command that release 1 refused then gives her files.

    So too a whole model that was asked for without the base.
    """
    with running(founded(tmp_path)) as coordinator:
        member = coordinator.member()
        member.contribute(member.pack(member.lease("anna", ("anna-k7",)), seed=1))
        coordinator.release(614)
        out, whole = tmp_path / "out", tmp_path / "whole"
        words, full = ("--concept", "dora"), ("--as", "full")
        refused = [compose(coordinator, out, *words, check=False)]
        refused.append(compose(coordinator, whole, *full, check=False))
        member.contribute(member.pack(member.lease("dora", ("dora-k7",)), seed=2))
        coordinator.release(614)
        base = ("--base", str(coordinator.house.settings.base))
        done = [compose(coordinator, out, *words), compose(coordinator, whole, *full, *base)]

    assert [each.returncode for each in refused] == [2, 2]
    assert [json.loads(each.stdout)["release"] for each in done] == [2, 2]


def test_a_refused_pull_leaves_a_whole_release_as_good_as_it_was(tmp_path):
    """It asked for more than there is, or for a whole model without the base: nothing was begun."""
    with running(founded(tmp_path)) as coordinator:
        member = coordinator.member()
        member.contribute(member.pack(member.lease("anna", ("anna-k7",)), seed=1))
        coordinator.release(614)
        out = tmp_path / "out"
        compose(coordinator, out)
        more = [("--as", "word"), ("--as", "full"), ("--concept", "dora")]
        refused = [compose(coordinator, out, *each, check=False) for each in more]

    assert [each.returncode for each in refused] == [2, 2, 2]
    assert verify_folder(out).release.manifest.n == 1
