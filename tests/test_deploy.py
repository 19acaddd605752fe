"""deploy/: what can be said of images, compose file, chart and proxies without an engine.

No container engine runs where these tests do, so no image was built here. Checked are: each
Dockerfile by hadolint, and that the files it copies make an installable package; the compose file
by its published schema; the chart by helm itself and each manifest by Kubernetes' schemas; the
nginx files by nginx, the pass-through by a call through it.
"""

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from orthofed.core.invite import Invite

from . import certificates
from .member import Member, Wire
from .paged import paged
from .serving import founded, running

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "orthofed-coordinator"
DOCKERFILES = sorted((DEPLOY / "docker").glob("*.Dockerfile"))
VALUES = (
    "federation.name=wren",
    "federation.address=fed.example.org:7443",
    "base.claim=base",
)


def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a tool that came with the environment, or the machine's."""
    first = Path(sys.executable).with_name(str(command[0]))
    words = [str(first if first.is_file() else command[0]), *map(str, command[1:])]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done


def rendered(*values: str) -> list[dict[str, Any]]:
    """Return what the chart makes of these values and the needed ones."""
    options = [word for value in (*VALUES, *values) for word in ("--set", value)]
    text = run("helm", "template", "wren", CHART, *options).stdout
    return [each for each in yaml.safe_load_all(text) if each]


def one(made: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the only manifest of a kind."""
    (found,) = [each for each in made if each["kind"] == kind]
    return found


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_a_dockerfile_has_nothing_that_hadolint_minds(path):
    """Pinned bases, clean apt, no latest: exit code 0."""
    run("hadolint", path)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_runs_as_nobody_and_holds_no_key(path):
    """The last stage ends as an account by number; what is secret is not in the build's context."""
    text = path.read_text()
    last = text.rpartition("\nFROM ")[2]
    users = re.findall(r"^USER (\S+)$", last, re.MULTILINE)

    assert users
    assert int(users[-1]) >= 10_000
    assert last.index("\nUSER ") < last.index("\nENTRYPOINT ")
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    assert {"**/*.pem", "**/*.key"} <= set(ignored)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_what_an_image_copies_is_all_that_it_needs(path, tmp_path):
    """Only the copied paths, none that is ignored: they install, and the command runs from them."""
    build = tmp_path / "src"
    build.mkdir()
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    }
    for words in re.findall(r"^COPY (?!--from)(.+)$", path.read_text(), re.MULTILINE):
        *sources, target = words.split()
        for source in sources:
            assert source in kept, f"{source} is not in the build's context"
            for found in ROOT.glob(source):
                place = build / target.rstrip("/") / ("" if found.is_dir() else found.name)
                _copy(found, place)
    site = tmp_path / "site"
    install = ["--no-deps", "--no-build-isolation", "--quiet", "--target", str(site)]
    run("pip", "install", *install, build)

    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); from orthofed.__main__ import main; main()"
    )
    word = "client" if "client" in path.name else "coordinator"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _with_libraries(code), word, "--help"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "daemon" in done.stdout or "serve" in done.stdout


def _copy(found: Path, place: Path) -> None:
    if found.is_dir():
        skipped = shutil.ignore_patterns("__pycache__", ".build", "node_modules")
        shutil.copytree(found, place, ignore=skipped)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found, place)


def _with_libraries(code: str) -> str:
    """Give the environment's libraries without its link to this checkout."""
    libraries = next(p for p in sys.path if p.endswith("site-packages"))
    return f"import sys; sys.path.append({libraries!r}); {code}"


def _installed(extra: str) -> dict[str, int]:
    """Return each package that pip brings for this one with an extra, and its bytes here."""
    wanted, found = [("orthofed", frozenset({extra}))], dict[str, int]()
    seen: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        name, extras = wanted.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        package = distribution(name)
        found[name] = sum(
            Path(str(path.locate())).stat().st_size
            for path in package.files or ()
            if Path(str(path.locate())).is_file()
        )
        for text in package.requires or ():
            needed = Requirement(text)
            environments = [{"extra": each} for each in (*extras, "")]
            if needed.marker is None or any(map(needed.marker.evaluate, environments)):
                wanted.append((canonicalize_name(needed.name), frozenset(needed.extras)))
    return found


def test_the_coordinators_image_brings_no_torch_and_stays_small() -> None:
    """All that `pip install .[web]` brings beside this package, by what each requires.

    The bound is a fifth above what it was; Python's slim image, 130 MB, comes to it.
    """
    image = (DEPLOY / "docker" / "coordinator.Dockerfile").read_text("utf-8")
    assert '".[web]"' in image

    coordinator, client = _installed("web"), _installed("client")

    assert "torch" in client, "what is looked for would be found"
    assert {"torch", "diffusers", "transformers", "flwr", "ray"}.isdisjoint(coordinator)
    assert {"grpcio", "numpy", "uvicorn"} <= coordinator.keys()
    assert sum(coordinator.values()) < 160e6, coordinator


def test_the_images_start_what_they_have():
    """The coordinator's default command is one that the coordinator's own options know."""
    text = (DEPLOY / "docker" / "coordinator.Dockerfile").read_text()
    words = re.findall(r'"([^"]+)"', re.findall(r"^CMD (.+)$", text, re.MULTILINE)[-1])
    shown = run("orthofed", "coordinator", words[0], "--help").stdout

    assert words[0] == "serve"
    assert [word for word in words if word.startswith("--") and word not in shown] == []


def test_the_compose_file_is_one_and_locked():
    """Its published schema; no service with all capabilities, none open by accident."""
    path = DEPLOY / "compose.yaml"
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", path)
    services = yaml.safe_load(path.read_text())["services"]

    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not service.get("image", "").endswith(":latest"), name
        for volume in service.get("volumes", ()):
            if isinstance(volume, dict) and volume["source"].startswith("./"):
                source = DEPLOY / volume["source"]
                assert source.exists() or volume["source"] == "./base", volume
    open_ports = [p for s in services.values() for p in s.get("ports", ()) if "127.0.0.1" not in p]
    assert open_ports == ["7443:7443", "8080:8080"]


def test_the_compose_file_has_four_services_that_find_each_other():
    """Coordinator, web server, Prometheus, Grafana; what one serves is where the next looks."""
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    mounts = {
        name: {
            volume["target"]: volume["source"]
            for volume in service["volumes"]
            if isinstance(volume, dict)
        }
        for name, service in services.items()
    }

    assert list(services) == ["coordinator", "files", "prometheus", "grafana"]
    assert services["coordinator"]["build"]["dockerfile"] == "deploy/docker/coordinator.Dockerfile"
    assert "mirror:/mirror" in services["coordinator"]["volumes"]
    assert "mirror:/mirror:ro" in services["files"]["volumes"]
    # Prometheus scrapes the coordinator's own name and the port that its image gives --metrics.
    (job,) = yaml.safe_load((DEPLOY / "prometheus" / "compose.yml").read_text())["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    host, port = target.split(":")
    assert host in services
    image = (DEPLOY / "docker" / "coordinator.Dockerfile").read_text()
    assert f'"--metrics=0.0.0.0:{port}"' in image or f'"--metrics", "0.0.0.0:{port}"' in image
    assert mounts["prometheus"]["/etc/prometheus/prometheus.yml"] == "./prometheus/compose.yml"
    assert mounts["prometheus"]["/etc/prometheus/alerts.yml"] == "./prometheus/alerts.yml"
    shared = {name for name, service in services.items() if "watch" in service["networks"]}
    assert shared == {"coordinator", "prometheus", "grafana"}
    # Grafana finds the dashboard in the folder that its provider reads, the numbers at Prometheus.
    provisioned = DEPLOY / mounts["grafana"]["/etc/grafana/provisioning"]
    dashboards = yaml.safe_load((provisioned / "dashboards" / "orthofed.yaml").read_text())
    (provider,) = dashboards["providers"]
    places = [Path(target) for target in mounts["grafana"]]
    assert Path(provider["options"]["path"]) / "coordinator.json" in places
    sources = yaml.safe_load((provisioned / "datasources" / "prometheus.yaml").read_text())
    assert [source["url"] for source in sources["datasources"]] == ["http://prometheus:9090"]


def test_the_clients_image_is_built_on_the_base_that_is_given():
    """``--build-arg BASE=...`` reaches both stages: the one that is kept needs the GPU's files."""
    text = (DEPLOY / "docker" / "client.Dockerfile").read_text()
    lines = [line for line in text.splitlines() if re.match("(ARG|FROM) ", line)]

    assert re.fullmatch(r"ARG BASE=debian:[a-z]+-slim", lines[0])
    assert lines[1:] == ["FROM ${BASE} AS build", "FROM ${BASE}"]


def test_the_scrape_jobs_say_what_the_rules_ask_for():
    """Both Prometheus files read the same rules, and their job is the one in the expressions."""
    for name in ("prometheus.yml", "compose.yml"):
        config = yaml.safe_load((DEPLOY / "prometheus" / name).read_text())
        assert config["rule_files"] == ["alerts.yml"]
        assert [job["job_name"] for job in config["scrape_configs"]] == ["orthofed"]


def test_the_chart_is_sound():
    """Helm's own lint, with every warning an error."""
    options = [word for value in VALUES for word in ("--set", value)]

    run("helm", "lint", "--strict", CHART, *options)


@pytest.mark.parametrize(
    "values",
    [
        (),
        ("metrics.enabled=false", "networkPolicy.enabled=false", "service.type=ClusterIP"),
        ("data.claim=old", "base.path=sd15", "image.tag=v9", "federation.options[0]=--targets=all"),
        ("data.storageClass=fast", "networkPolicy.from[0].ipBlock.cidr=10.0.0.0/8"),
    ],
)
def test_every_manifest_is_what_kubernetes_takes(values):
    """Strictly: an unknown key is an error. The monitor is another project's kind."""
    for manifest in rendered(*values):
        kubernetes_validate.validate(manifest, "1.34", strict=True)


def test_the_pod_can_do_nothing_but_its_work():
    """No root, no writable image, no token, no capability, nobody to call; the data is kept."""
    made = rendered()
    state = one(made, "StatefulSet")["spec"]
    pod = state["template"]["spec"]

    assert state["replicas"] == 1
    assert state["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in (*pod["initContainers"], *pod["containers"]):
        locked = container["securityContext"]
        assert locked["readOnlyRootFilesystem"] is True
        assert locked["allowPrivilegeEscalation"] is False
        assert locked["capabilities"] == {"drop": ["ALL"]}
    assert one(made, "NetworkPolicy")["spec"]["egress"] == []
    (public,) = [s for s in made if s["kind"] == "Service" and s["spec"]["type"] != "ClusterIP"]
    assert [port["name"] for port in public["spec"]["ports"]] == ["grpc"]


def test_the_pod_is_probed_where_it_listens_and_keeps_its_data_on_a_claim():
    """Three probes of a port and a command that are there; 50 GiB of its own, or a given claim."""
    state = one(rendered(), "StatefulSet")["spec"]
    serve = state["template"]["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in serve["ports"]}

    assert f"--listen=0.0.0.0:{ports['grpc']}" in serve["args"]
    assert serve["startupProbe"]["tcpSocket"] == {"port": "grpc"}
    assert serve["readinessProbe"]["tcpSocket"] == {"port": "grpc"}
    alive = serve["livenessProbe"]["exec"]["command"]
    assert alive[:3] == ["orthofed", "coordinator", "status"]
    assert alive[3] == serve["args"][1], "of the folder that it serves"
    run("orthofed", "coordinator", "status", "--help")

    (claim,) = state["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "data"
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "50Gi"
    (mount,) = [each for each in serve["volumeMounts"] if each["name"] == "data"]
    assert alive[3].startswith(mount["mountPath"] + "/")

    given = one(rendered("data.claim=old"), "StatefulSet")["spec"]
    assert "volumeClaimTemplates" not in given
    (data,) = [v for v in given["template"]["spec"]["volumes"] if v["name"] == "data"]
    assert data["persistentVolumeClaim"] == {"claimName": "old"}


def test_a_service_monitor_is_made_on_demand_and_finds_the_metrics():
    """It selects the service of the numbers and no other, and names the job of the rules."""
    made = rendered("metrics.serviceMonitor=true")
    spec = one(made, "ServiceMonitor")["spec"]
    wanted = spec["selector"]["matchLabels"].items()
    (endpoint,) = spec["endpoints"]

    (found,) = [
        each
        for each in made
        if each["kind"] == "Service" and wanted <= each["metadata"]["labels"].items()
    ]
    assert endpoint["port"] in [port["name"] for port in found["spec"]["ports"]]
    assert {"targetLabel": "job", "replacement": "orthofed"} in endpoint["relabelings"]
    for values in ((), ("metrics.serviceMonitor=true", "metrics.enabled=false")):
        assert "ServiceMonitor" not in [each["kind"] for each in rendered(*values)]


def test_the_pod_starts_commands_that_exist():
    """Every option that the chart gives is one that the command's help names."""
    pod = one(rendered("federation.options[0]=--targets=all"), "StatefulSet")["spec"]["template"]
    init, serve = pod["spec"]["initContainers"][0], pod["spec"]["containers"][0]
    given = {"init": init["args"][2:], "serve": serve["args"][1:]}

    for verb, words in given.items():
        shown = run("orthofed", "coordinator", verb, "--help").stdout
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        assert options
        assert [option for option in options if option not in shown] == []


@pytest.mark.parametrize(
    "value",
    [
        "federation.name=Wren Fed",
        "federation.address=fed.example.org",
        "base.claim=",
        "service.type=Anything",
        "replicas=3",
        "federation.rank=0",
    ],
)
def test_a_wrong_value_is_refused_by_name(value):
    """Each is named before anything reaches a cluster."""
    options = [word for each in (*VALUES, value) for word in ("--set", each)]
    done = run("helm", "template", "wren", CHART, *options, check=False)

    assert done.returncode != 0
    assert value.partition("=")[0].rpartition(".")[2] in done.stderr


@pytest.mark.parametrize("name", ["coordinator.conf", "mirror.conf", "web.conf"])
def test_nginx_knows_every_directive(name, tmp_path):
    """By crossplane, which has the directives of every module: places, arguments, none unknown."""
    text = (DEPLOY / "nginx" / name).read_text()
    whole = text if "stream {" in text else f"http {{ {text} }}"
    path = tmp_path / "nginx.conf"
    path.write_text(f"events {{}}\n{whole}")

    said = json.loads(run("crossplane", "parse", "--strict", path).stdout)

    assert said["status"] == "ok", said["errors"]


@pytest.fixture
def nginx(tmp_path) -> Iterator[Any]:
    """Give what starts nginx on a configuration of this test's folder."""
    if shutil.which("nginx") is None:
        pytest.skip("there is no nginx here")
    started: list[subprocess.Popen[bytes]] = []

    def start(text: str) -> None:
        load = ""
        if "stream {" in text:
            module = next(Path("/usr/lib/nginx/modules").glob("ngx_stream_module.so"), None)
            if module is None:
                pytest.skip("this nginx has no stream module")
            load = f"load_module {module};\n"
        head = f"{load}daemon off; master_process off; pid {tmp_path}/pid; error_log stderr;\n"
        path = tmp_path / "nginx.conf"
        path.write_text(head + "events {}\n" + text)
        run("nginx", "-t", "-p", tmp_path, "-c", path)
        started.append(
            subprocess.Popen(
                ["nginx", "-p", str(tmp_path), "-c", str(path)], stderr=subprocess.DEVNULL
            )
        )

    yield start
    for process in started:
        process.terminate()
        process.wait(10)


def test_clients_call_through_the_pass_through(nginx, tmp_path):
    """A contribution goes through the proxy of deploy/nginx, TLS unopened, pin unchanged."""
    text = (DEPLOY / "nginx" / "coordinator.conf").read_text()
    with running(founded(tmp_path)) as own:
        port = own.server.port
        mine = _free_port()
        text = text.replace("127.0.0.1:7070", f"127.0.0.1:{port}").replace("7443", str(mine))
        nginx(text)
        anna = Member(Wire(Invite.from_text(own.invite()), address=f"127.0.0.1:{mine}"))
        anna.join()
        receipt = anna.contribute(anna.pack(anna.lease("anna", ("anna-k7",)), seed=1))
        assert anna.check(receipt).leaf["kind"] == "contribution"


def test_the_page_is_shown_under_a_public_name_and_follows(nginx, tmp_path):
    """TLS before it, the name that it knows itself by, and a stream that nobody holds back."""
    made = certificates.server(certificates.authority(), hosts=("fed.example.org",))
    (tmp_path / "fullchain.pem").write_bytes(made.pem)
    (tmp_path / "privkey.pem").write_bytes(made.key)
    name, mine = "fed.example.org", _free_port()
    line = httpx.HTTPTransport(verify=False, retries=6)  # nginx is looked at, and begins to listen
    with (
        running(founded(tmp_path)) as own,
        paged(own, url=f"https://{name}") as page,
        httpx.Client(base_url=f"https://127.0.0.1:{mine}", transport=line, timeout=30) as reader,
    ):
        text = (DEPLOY / "nginx" / "web.conf").read_text()
        text = text.replace("listen 443", f"listen 127.0.0.1:{mine}")
        text = text.replace("127.0.0.1:8080", f"127.0.0.1:{page.port}")
        text = text.replace(f"/etc/letsencrypt/live/{name}", str(tmp_path))
        nginx(f"http {{ access_log off; {text} }}")
        reader.headers["host"] = name
        word = str(page.logins.link("anna")["url"]).partition("word=")[2]

        login = reader.post("/operator/login", data={"word": word})
        strangers = reader.get("/", headers={"host": "other.example.org"})
        with reader.stream("GET", "/live") as stream:
            heard = next(line for line in stream.iter_lines() if line.startswith("event"))

    assert login.status_code == 303
    assert login.headers["set-cookie"].startswith("__Host-orthofed=")
    assert "Secure" in login.headers["set-cookie"]
    assert strangers.status_code == 421
    assert heard == "event: change"


def test_the_mirror_serves_what_publish_writes(nginx, tmp_path):
    """`orthofed pull` takes a release from the web server of the compose file."""
    with running(founded(tmp_path)) as own:
        anna = own.member()
        anna.contribute(anna.pack(anna.lease("anna", ("anna-k7",)), seed=1))
        own.release()
        run("orthofed", "coordinator", "publish", own.folder.root, tmp_path / "mirror")
        log = own.house.facts.log
    port = _free_port()
    text = (DEPLOY / "nginx" / "mirror.conf").read_text()
    text = text.replace("8080", str(port)).replace("/mirror;", f"{tmp_path}/mirror;")
    nginx(f"http {{ access_log off; {text} }}")

    done = run(
        "orthofed", "pull", f"http://127.0.0.1:{port}/#{log}", "-o", tmp_path / "got", check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert any((tmp_path / "got").rglob("*.safetensors"))


def _free_port() -> int:
    with socket.socket() as one_port:
        one_port.bind(("127.0.0.1", 0))
        return one_port.getsockname()[1]
