"""T27: planted in names, captions, metadata, environment, errors and settings, found nowhere else.

One owner goes the whole way with the client's own code: join, train, upload, release, pull, verify,
score, status, withdraw, and two commands that fail. Between it and a real coordinator process
stands a recorder (wire_recorder.py), the only peer it has. Searched are every byte that crossed, in
both directions, the coordinator's whole folder, log and answers, and the release as it was pulled,
with every kind of file that one can have and a sample picture.
Backs: "Images, captions and logs never leave the client: no message can carry them, and the egress
gate shows every byte."
"""

import contextlib
import hashlib
import json
import platform
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from orthofed.client import channel, train_command  # by module: seeded bugs patch them
from orthofed.client import join as joining
from orthofed.client.egress import EgressList
from orthofed.client.home import Home
from orthofed.client.outbox import read_record
from orthofed.client.state import BLOB, MANIFEST
from orthofed.client.status import status_of
from orthofed.client.train_options import TrainOptions
from orthofed.client.withdrawal import withdraw
from orthofed.core.errors import InputError, OrthoFedError
from orthofed.core.kinds import KINDS

from ..coordinator_process import Coordinator, run
from ..planted import Plants, files_of, write_pictures
from ..seeded import Bug
from ..tiny_base import tiny_base
from ..wire_recorder import WireRecorder

pytestmark = pytest.mark.long

SETTINGS = """\
steps = 4
batch = 4
null_images = 2
null_sampling_steps = 2
warmup_steps = 1
rate = 1e-4
threads = 1
sample_every = 4
sample_prompts = ["a {{}} of {prompt}"]
"""
CONCEPT = "anna-k7"


@dataclass
class Played:
    """What was planted, and all that somebody else can read afterwards."""

    plants: Plants
    recorder: WireRecorder
    elsewhere: list[tuple[str, bytes]]
    home: Home
    shown: EgressList
    pulled: Path

    def everything(self) -> Iterator[tuple[str, bytes]]:
        yield from self.recorder.sent
        yield from self.recorder.received
        yield from self.elsewhere


@contextlib.contextmanager
def planted_machine(plants: Plants) -> Iterator[None]:
    """Let the machine itself be private: its environment, user, host name and platform."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("USER", "LOGNAME", "HOSTNAME", "EMAIL", "HF_TOKEN", "WANDB_API_KEY"):
            patch.setenv(name, plants.make(f"environment {name}"))
        host = plants.make("host name")
        patch.setattr(socket, "gethostname", lambda: host)
        patch.setattr(platform, "node", lambda: host)
        real = socket.gethostname()
        if len(real) > 8:
            plants.name("real host name", real.lower())
        yield


@dataclass
class Place:
    """A coordinator, its recorder, and one owner's folder of private things."""

    coordinator: Coordinator
    recorder: WireRecorder
    plants: Plants
    scratch: Path
    images: Path

    @property
    def home(self) -> Home:
        return Home.at(self.scratch / "home")

    def join(self) -> None:
        url = f"https://{self.recorder.address}"
        joining.join(self.home, self.coordinator.invite(), url=url, patience_s=20)

    def train(self, concept: str = CONCEPT, images: Path | None = None) -> EgressList:
        shown: list[EgressList] = []
        options = TrainOptions(
            concept=concept,
            noun=self.plants.words["class noun"],
            images=images or self.images,
            base=self.coordinator.folder.parent / "base",
            config=self.scratch / "settings.toml",
            pictures=True,
        )
        train_command.train_concept(
            self.home,
            options,
            report=lambda _: None,
            ask=lambda listing: shown.append(listing) is None,
            patience_s=20,
        )
        return shown[0]


@contextlib.contextmanager
def place(folder: Path) -> Iterator[Place]:
    """Start a coordinator, put the recorder before it, plant everything."""
    torch.set_num_threads(1)
    plants = Plants()
    tiny_base(folder / "base")
    with planted_machine(plants):
        scratch = folder / plants.make("home folder")
        scratch.mkdir()
        images = write_pictures(scratch, plants, count=6)
        plants.make("class noun")
        text = SETTINGS.format(prompt=plants.make("sample prompt"))
        (scratch / "settings.toml").write_text(text)
        options = ("--rank", "1")
        with (
            Coordinator.found(folder / "fed", folder / "base", *options) as coordinator,
            WireRecorder(coordinator.address, folder / "fed" / "keys").running() as recorder,
        ):
            yield Place(coordinator, recorder, plants, scratch, images)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Play the whole story once."""
    folder = tmp_path_factory.mktemp("claims")
    with place(folder) as here:
        here.join()
        shown = here.train()
        broken_images(here)
        out = release_and_pull(here, folder)
        elsewhere = look_back(here, out)
        withdraw_and_fail(here)
        here.coordinator.kill()
        elsewhere += [(f"fed/{name}", data) for name, data in files_of(folder / "fed")]
        elsewhere += [(f"pulled/{name}", data) for name, data in files_of(out)]
        elsewhere.append(("coordinator's log", here.coordinator.log().encode()))
        return Played(here.plants, here.recorder, elsewhere, here.home, shown, out)


def broken_images(here: Place) -> None:
    """Fail at home: a file that is no image, its name and text planted, ends the command."""
    folder = here.scratch / "broken"
    shutil.copytree(here.images, folder)
    words = here.plants.make("broken file"), here.plants.make("text of a broken file")
    (folder / f"{words[0]}.png").write_text(words[1])
    with pytest.raises(InputError) as refused:
        here.train("bert-k7", images=folder)
    assert words[0] in str(refused.value)


def release_and_pull(here: Place, folder: Path) -> Path:
    """Publish, then pull and verify through the recorder, as the owner of the home."""
    fed = str(here.coordinator.folder)
    listed = json.loads(run("coordinator", "contributions", fed, "--json").stdout)
    for each in listed["contributions"]:
        run("coordinator", "approve", fed, str(each["leaf"]))
    settings = here.coordinator.folder / "coordinator.toml"
    said = settings.read_text()
    assert 'derive = ["full"]' in said
    settings.write_text(said.replace('derive = ["full"]', "derive = []"))  # publish every kind
    here.coordinator.release("--samples")
    link = here.coordinator.link().replace(here.coordinator.address, here.recorder.address)
    out = folder / "pulled"
    run("pull", link, "-o", str(out))
    run("verify", str(out))
    return out


def look_back(here: Place, out: Path) -> list[tuple[str, bytes]]:
    """Score and ask for the status, as owner; return what the operator's commands print."""
    base = str(here.coordinator.folder.parent / "base")
    words = ["--concept", CONCEPT, "--images", str(here.images), "--base", base]
    words += ["--release", str(out), "--home", str(here.home.folder)]
    run("client", "score", *words, "--send", "--yes")
    status_of(here.home)
    fed = str(here.coordinator.folder)
    return [
        (f"coordinator {name}", run("coordinator", name, fed, "--json").stdout.encode())
        for name in ("status", "contributions", "retention")
    ]


def withdraw_and_fail(here: Place) -> None:
    """Withdraw, then be refused by the coordinator: a name that is taken comes back as an error."""
    withdraw(here.home, CONCEPT, ask=lambda _: True, patience_s=20)
    with pytest.raises(OrthoFedError):
        withdraw(here.home, "nobody-k7", ask=lambda _: True, patience_s=20)


def test_nothing_planted_is_in_any_byte_that_crossed_or_was_published(played: Played) -> None:
    """About 50 words and the pictures' own bytes: 0 found, in any spelling, packed or not."""
    assert len(played.plants.words) >= 40
    assert len(played.recorder.sent) > 60
    assert any(path.endswith("Withdraw") for path, _ in played.recorder.sent)
    assert any(path.endswith("Score") for path, _ in played.recorder.sent)
    assert any(name.startswith("fed/public/releases/1/") for name, _ in played.elsewhere)
    assert any(name.startswith("fed/data/") for name, _ in played.elsewhere)

    assert played.plants.found(played.everything()) == set()


def test_every_kind_of_file_of_a_release_was_searched(played: Played) -> None:
    """formats.md 8: each spelling of the LoRA, the whole models, info.json, the card, a picture."""
    names = {name for name, _ in played.elsewhere}
    said = json.loads((played.pulled / "info.json").read_text())

    assert {file["kind"] for file in said["files"]} == set(KINDS)
    assert {f"pulled/{file['name']}" for file in said["files"]} <= names
    texts = ("card.md", "info.json", "manifest.json", "peft/unet/adapter_config.json")
    assert {f"pulled/{name}" for name in (*texts, f"samples/{CONCEPT}.png")} <= names


def test_a_release_names_no_folder_of_the_operators(played: Played) -> None:
    """Where the coordinator and its base lay is in none of its files."""
    own, place = Plants(), played.pulled.parent
    for folder in (place, place / "fed", place / "base"):
        own.name(str(folder), str(folder).lower())

    assert own.found(files_of(played.pulled)) == set()
    assert own.found([("here", str(place / "base").encode())]) != set()


def test_the_search_finds_each_plant_where_it_was_planted(played: Played) -> None:
    """The guard itself: in the owner's own folder every word is found, and the pixels too."""
    folder = played.home.folder.parent
    seen = {what for _, what in played.plants.found([(str(folder), str(folder).encode())])}
    seen |= {what for _, what in played.plants.found(files_of(folder))}

    wanted = {what for what in played.plants.words if not what.startswith(("environ", "host"))}
    assert wanted - seen <= {"real host name"}
    assert any(what.startswith("pixels") for what in seen)


def test_the_gate_showed_every_byte_of_the_contribution(played: Played) -> None:
    """What the recorder took of Begin and Put is what was shown; each message is in the list."""
    folder = played.home.run(CONCEPT)
    shown = {file.name: file.sha256 for file in played.shown.files}
    files = {MANIFEST: "manifest.json", BLOB: "contribution.safetensors"}
    crossed = b"".join(
        data for path, data in played.recorder.sent if path.endswith(("Begin", "Put"))
    )
    listed = {each.sha256 for each in read_record(played.home.folder / "outbox.jsonl").sent}
    pulls = ("ListReleases", "GetManifest", "Read", "ReadPublic")  # a consumer's, without a home
    bodies = {
        hashlib.sha256(data).hexdigest()
        for path, data in played.recorder.sent
        if " " not in path and not path.endswith(pulls)
    }

    for name, title in files.items():
        data = (folder / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == shown[title]
        assert data[:4096] in crossed
    assert bodies <= listed


def test_a_caption_in_the_title_is_found(tmp_path: Path) -> None:
    """Seeded bug: the owner gave no title, so somebody takes the first caption for it."""
    with place(tmp_path) as here:
        here.join()
        with Bug.named("caption-in-title").in_process():
            here.train()
        here.coordinator.kill()
        crossed = here.plants.found(here.recorder.sent)
        kept = here.plants.found(files_of(tmp_path / "fed"))

    (caption,) = {what for _, what in crossed}
    assert caption.startswith("caption")
    assert {what for _, what in kept} == {caption}


def test_a_user_name_in_the_metadata_is_found(tmp_path: Path) -> None:
    """Seeded bug: a header for support says who calls; no message changes."""
    with (
        place(tmp_path) as here,
        Bug.named("user-in-metadata").in_process(),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(joining, "Channel", channel.Channel)
        here.join()
        found = here.plants.found(here.recorder.sent)

    assert {what for _, what in found} == {"environment USER"}
