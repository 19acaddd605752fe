"""F13: an operator who means ill delivers code of his own, and it meets a locked account.

Real SuperLink, SuperNode, SuperExec and `client fleet` without ``--same-account``; the owner's
daemon, its images and keys are another account's on the same machine, as docs/fleet.md sets up.
What a unit adds to that (no network but the proxy, no view of others' processes) is not here.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orthofed.client.home import Home
from orthofed.client.join import join

from ..coordinator_process import Coordinator, run
from ..owner_daemon import TRAINING, OwnerDaemon, queue
from ..tiny_base import tiny_base
from ..tiny_concept import write_images
from .fleet_processes import NEEDS_FLOWER, Courier, Operator, until
from .other_account import ACCOUNT, NEEDS_ROOT, as_account

pytestmark = [pytest.mark.fleet, NEEDS_FLOWER, NEEDS_ROOT]
BUNDLE = Path(__file__).with_name("hostile_bundle")
SECRETS = (
    "images/",
    "home/runs/newt-h8/",
    "home/master.key",
    "home/daemon",
    "home/federation.json",
)
"""Some of what must be among the paths that the search tried."""


@pytest.fixture
def place() -> Iterator[Path]:
    """Make a folder that every account may walk through, as /var/lib is."""
    with tempfile.TemporaryDirectory(prefix="orthofed-", dir="/var/tmp") as name:
        Path(name).chmod(0o711)
        yield Path(name)


class LockedCourier(Courier):
    """`client fleet` as `ACCOUNT`, by the rules: without ``--same-account``."""

    def command(self) -> list[str]:
        """Return what is started."""
        argv = [word for word in super().command() if word != "--same-account"]
        argv[argv.index("--roots") + 1] = str(self.folder.with_name("tls-ca.pem"))
        return as_account(argv, kept=self.folder.with_name("kept"))


def test_delivered_code_sees_orders_and_nothing_else(place: Path) -> None:
    """It may knock at orders.sock and read its own node key; images, keys, daemon: denied."""
    owner = place / "owner"
    owner.mkdir(0o700)
    tiny_base(owner / "base")
    write_images(owner / "images", 6)
    (owner / "quick.toml").write_text(TRAINING)
    doors = place / "doors"
    doors.mkdir()
    os.chown(doors, -1, ACCOUNT)  # as orthofed.tmpfiles makes it
    doors.chmod(0o2750)
    (place / "kept").mkdir()
    (place / "courier").mkdir(0o711)  # the unit's StateDirectory
    os.chown(place / "courier", ACCOUNT, ACCOUNT)
    with Coordinator.found(place / "fed", owner / "base", "--rank", "1") as federation:
        home = Home.at(owner / "home")
        join(home, federation.invite(), url=None, patience_s=20)
        config = queue(owner, "newt-h8", orders_socket=str(doors / "orders.sock"))
        run("client", "train", *trained(owner), "--home", str(home.folder), "--yes")
        bridge, orders = place / "fed" / "data" / "bridge.sock", doors / "orders.sock"
        with Operator(place / "link", bridge=bridge) as operator:
            put_in_place_of_ours(operator)
            shutil.copy(operator.roots, place)  # "Give tls-ca.pem to the owners"
            folder, link = place / "courier", operator.superlink
            with LockedCourier(folder, operator, superlink=link, orders=orders) as courier:
                until(courier.public_key.exists, "a node key", seconds=60)
                run("client", "fleet-key", str(courier.public_key), "--home", str(home.folder))
                with OwnerDaemon(home, config) as daemon:
                    assert daemon.process is not None
                    loot = brought_home(place, pid=daemon.process.pid, courier=courier)

    assert loot.pop("uid") == ACCOUNT
    assert loot.pop("orders") == "got 'connected'"
    assert loot.pop("own key").startswith("got b'-----BEGIN OPENSSH")
    assert len(loot) > 3 * 30
    assert all(any(f"read {owner}/{each}" in what for what in loot) for each in SECRETS)
    assert set(loot.values()) == {"PermissionError"}, loot


def put_in_place_of_ours(operator: Operator) -> None:
    """Change what the operator's supervisor sends, before it has sent anything."""
    ours = operator.folder / "app"
    until((ours / "pyproject.toml").exists, "our bundle", seconds=30)
    assert not operator.count("start-run")
    shutil.rmtree(ours)
    shutil.copytree(BUNDLE, ours)


def brought_home(place: Path, *, pid: int, courier: Courier) -> dict[str, str]:
    """Say what is wanted, and return what the hostile bundle brought home."""
    sockets = [str(each) for each in place.rglob("*.sock") if each.name != "orders.sock"]
    assert {Path(each).name for each in sockets} >= {"daemon.sock", "bridge.sock"}
    wish = {"paths": wanted_of(place / "owner"), "sockets": sockets, "pid": pid}
    (place / "wanted.part").write_text(json.dumps(wish))
    (place / "wanted.part").replace(place / "wanted.json")
    try:
        until((place / "loot.json").exists, "an answer", seconds=300)
    except AssertionError as error:
        raise AssertionError(courier.log()) from error
    return dict(json.loads((place / "loot.json").read_text()))


def wanted_of(owner: Path) -> list[str]:
    """Return what is worth having of the owner's and the operator's: folders, files, sockets."""
    place = owner.parent
    found = [
        owner,
        *sorted(owner.rglob("*")),
        place / "fed",
        place / "fed" / "keys",
        place / "link",
    ]
    return [str(each) for each in found]


def trained(owner: Path) -> list[str]:
    """Return the words of a training that leaves keys, blob, receipt and caches in the home."""
    words = {"concept": "newt-h8", "class-noun": "fox", "images": owner / "images"}
    words |= {"base": owner / "base", "config": owner / "quick.toml"}
    return [str(word) for key, value in words.items() for word in (f"--{key}", value)]
