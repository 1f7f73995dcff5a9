"""Images are built by the make target, on a base made here, and keep SageMaker's contract for real.

`make image-test`. One node and two, stopped and started again, given a broken job and a bad disk.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.containers.engine import Container, Engine, why_not
from tests.containers.laying import failure, lay_out
from tests.running import ROOT, Run, changed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.image,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "can run here"),
]

IMAGES = {"gpu": "localhost/temper-gpu:test", "neuron": "localhost/temper-neuron:test"}
SHARED = ROOT.parent / "shared"
NETWORK = "temper-image-test"


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine.here(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="session")
def gpu(engine: Engine) -> str:
    engine.build("gpu", IMAGES["gpu"], COMMIT="0123456789abcdef")
    return IMAGES["gpu"]


@pytest.fixture(scope="session")
def neuron(engine: Engine) -> str:
    engine.build("neuron", IMAGES["neuron"], BUILD_ARGS="NEURON_INDEX=")
    return IMAGES["neuron"]


@pytest.fixture
def job(document: dict[str, Any]) -> dict[str, Any]:
    """The tiny job, with its model and rows where SageMaker puts channels."""
    return changed(
        document,
        model={"source": "/opt/ml/input/data/model"},
        data={"train": "channel:train"},
        train={"max_steps": 40},
    )


@pytest.fixture
def channels(tiny_model: Path, pairs: Path) -> dict[str, Path]:
    return {"train": pairs, "model": tiny_model}


@pytest.fixture
def contract(job: dict[str, Any], channels: dict[str, Path]) -> tuple[Any, dict[str, Path]]:
    """A contract job where it is beside us, and our own tiny one elsewhere."""
    if not SHARED.is_dir():
        return job, channels
    import yaml

    told = yaml.safe_load((SHARED / "contract/jobs/03-sft-csv.yaml").read_text())
    told = changed(
        told,
        model={"source": "/opt/ml/input/data/model"},
        data={"train": "channel:train", "limit": 160},
    )
    return told, {
        "train": SHARED / "contract/data/medquad.csv",
        "model": SHARED / "data/models/stories260K-hf",
    }


# --- what is in it -------------------------------------------------------------------------------


def test_labels_and_bill_of_materials(engine: Engine, gpu: str) -> None:
    facts = json.loads(engine.call("image", "inspect", gpu))[0]
    labels = facts["Config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == "0123456789abcdef"
    assert labels["org.opencontainers.image.version"] == "0.1.0"
    assert labels["org.opencontainers.image.base.name"] == engine.base()
    bill = json.loads(
        engine.call("run", "--rm", "--entrypoint", "cat", gpu, "/opt/temper/sbom.json")
    )
    assert bill["bomFormat"] == "CycloneDX"
    # Packages spell their own names as they please.
    found = {
        re.sub(r"[-_.]+", "-", part["name"]).lower(): part["version"] for part in bill["components"]
    }
    pinned = dict(
        line.split(" ")[0].split("==")
        for line in (ROOT / "containers/gpu/requirements.txt").read_text().splitlines()
        if "==" in line and ";" not in line
    )
    wrong = {n: v for n, v in pinned.items() if found.get(n) not in (v, None)}
    assert wrong == {}
    missing = pinned.keys() - found.keys()
    assert missing == set()
    assert found["deepspeed"] == "0.19.8"


def test_no_layer_holds_what_only_the_build_needed(engine: Engine, gpu: str) -> None:
    look = (
        "find / -xdev -path '*secrets/ca*' -size +0 -type f; find / -xdev -name '*.whl' -type f; "
        "find /root/.cache /opt/tools /src -maxdepth 0"
    )
    found = engine.call("run", "--rm", "--entrypoint", "sh", gpu, "-c", f"({look}) 2>/dev/null; :")
    # Debian's Python carries the wheel of its pip.
    assert [
        line
        for line in found.splitlines()
        if "ensurepip" not in line and "python-wheels" not in line
    ] == []
    history = engine.call("history", "--no-trunc", gpu)
    assert "BEGIN CERTIFICATE" not in history


@pytest.mark.parametrize("kind", ["gpu", "neuron"])
def test_health_check(engine: Engine, kind: str, request: pytest.FixtureRequest) -> None:
    image = request.getfixturevalue(kind)
    facts = json.loads(engine.call("run", "--rm", image, "health"))
    assert facts["faults"] == []
    assert facts["packages"]["torch"].startswith("2.13.")
    assert facts["packages"]["temper"] == "0.1.0"
    assert (facts["packages"]["deepspeed"] is None) == (kind == "neuron")
    assert facts["torch"]["gloo"]
    config = json.loads(engine.call("image", "inspect", image))[0]
    check = config.get("HealthCheck") or config["Config"].get("Healthcheck")
    # Podman keeps health checks in its own format only; the command is the same.
    assert check is None or "health" in check["Test"]
    wanting = engine.call("run", "--rm", image, "health", "--devices", "8", check=False)
    assert "8 accelerators are wanted, 0 are here" in wanting


# --- SageMaker's contract ------------------------------------------------------------------------


def start(engine: Engine, image: str, root: Path, name: str, *options: str) -> Container:
    return engine.start(image, root, name=f"temper-{name}", options=options)


@pytest.mark.parametrize("kind", ["gpu", "neuron"])
def test_a_contract_job_from_start_to_model(
    engine: Engine,
    contract: tuple[Any, dict[str, Path]],
    tmp_path: Path,
    kind: str,
    request: pytest.FixtureRequest,
) -> None:
    image = request.getfixturevalue(kind)
    job, channels = contract
    root = lay_out(tmp_path / "ml", job, channels=channels)
    container = start(engine, image, root, kind)
    assert container.finish() == 0, container.log
    run = Run(root / "checkpoints")
    assert run.state == "finished"
    assert json.loads((run.path / "manifest.json").read_text())["commit"]
    for name in ("config.json", "model.safetensors", "tokenizer.json", "README.md"):
        assert (root / "model" / name).is_file()
    assert failure(root) == ""


def test_stopped_it_saves_and_started_again_it_goes_on(
    engine: Engine, gpu: str, job: dict[str, Any], channels: dict[str, Path], tmp_path: Path
) -> None:
    root = lay_out(tmp_path / "ml", job, channels=channels)
    container = start(engine, gpu, root, "stopped")
    container.wait_for_step(3)
    container.send("TERM")
    assert container.finish(130) == 75, container.log
    run = Run(root / "checkpoints")
    assert run.state == "stopped"
    last = run.samples[-1]["step"]
    assert run.checkpoints[-1] == f"checkpoint-{last}"
    assert failure(root) == ""
    # What comes back from S3 are files, not links.
    elsewhere = lay_out(tmp_path / "again", job, channels=channels)
    shutil.copytree(root / "checkpoints", elsewhere / "checkpoints", dirs_exist_ok=True)
    container = start(engine, gpu, elsewhere, "again")
    assert container.finish() == 0, container.log
    assert "going on with" in container.log
    run = Run(elsewhere / "checkpoints")
    assert [step["step"] for step in run.samples] == list(range(1, 41))
    assert f"checkpoint-{last}" in run.log, "taken up from the checkpoint"
    assert (elsewhere / "model/model.safetensors").is_file()


def test_a_broken_job_is_explained(
    engine: Engine, gpu: str, job: dict[str, Any], tmp_path: Path
) -> None:
    broken = changed(job, method={"kind": "sfft"}, train={"learning_rat": 1})
    root = lay_out(tmp_path / "ml", broken)
    container = start(engine, gpu, root, "broken")
    assert container.finish() == 2, container.log
    for word in ("2 problems", "method.kind: no such kind", "Did you mean sft?", "learning_rat"):
        assert word in failure(root)
        assert word in container.log
    assert "Traceback" not in container.log


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("{disk}:/opt/ml/model:ro", "/opt/ml/model cannot be written"),
        ("tmpfs", "/opt/ml/model has"),
    ],
)
def test_a_disk_that_cannot_take_the_model(
    engine: Engine, gpu: str, job: dict[str, Any], tmp_path: Path, option: str, words: str
) -> None:
    root = lay_out(tmp_path / "ml", job)
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ("--volume", option.format(disk=disk))
    if option == "tmpfs":
        options = ("--tmpfs", "/opt/ml/model:size=1m")
    container = start(engine, gpu, root, "disk", *options)
    assert container.finish() == 4, container.log
    assert words in failure(root)
    assert words in container.log


# --- two nodes -----------------------------------------------------------------------------------


@pytest.fixture
def network(engine: Engine) -> Iterator[str]:
    engine.call("network", "rm", "--force", NETWORK, check=False)
    engine.call("network", "create", NETWORK)
    yield NETWORK
    engine.call("network", "rm", "--force", NETWORK, check=False)


def start_two(
    engine: Engine, image: str, roots: list[Path], network: str
) -> tuple[Container, Container]:
    first, other = (
        engine.start(
            image,
            root,
            name=f"temper-algo-{number}",
            options=(
                *("--network", network, "--hostname", f"algo-{number}"),
                *("--network-alias", f"algo-{number}"),
            ),
        )
        for number, root in enumerate(roots, start=1)
    )
    return first, other


def test_two_containers_find_each_other_stop_and_go_on(
    engine: Engine,
    gpu: str,
    network: str,
    job: dict[str, Any],
    channels: dict[str, Path],
    tmp_path: Path,
) -> None:
    job = changed(job, train={"max_steps": 24, "micro_batch_size": 4}, sharding={"zero": 2})
    hosts = ("algo-1", "algo-2")
    roots = [
        lay_out(tmp_path / host, job, hosts=hosts, current=host, channels=channels)
        for host in hosts
    ]
    first, other = start_two(engine, gpu, roots, network)
    first.wait_for_step(4)
    other.send("TERM")
    codes = [first.finish(130), other.finish(130)]
    assert codes == [75, 75], first.log + other.log
    runs = [Run(root / "checkpoints") for root in roots]
    assert runs[0].checkpoints[-1] == runs[1].checkpoints[-1]
    assert (
        runs[1].path / "checkpoints" / runs[1].checkpoints[-1] / "CHECKSUMS.node-1.json"
    ).exists()
    # SageMaker brings what both had uploaded back to both.
    for mine, theirs in (roots, roots[::-1]):
        for path in (theirs / "checkpoints/checkpoints").rglob("*"):
            target = mine / path.relative_to(theirs)
            if path.is_file() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)
    first, other = start_two(engine, gpu, roots, network)
    codes = [first.finish(), other.finish()]
    assert codes == [0, 0], first.log + other.log
    assert "going on with" in first.log
    assert [step["step"] for step in runs[0].samples] == list(range(1, 25))
    assert (roots[0] / "model/model.safetensors").is_file()


def test_a_container_that_stays_alone_names_the_missing_one(
    engine: Engine, gpu: str, job: dict[str, Any], channels: dict[str, Path], tmp_path: Path
) -> None:
    root = lay_out(tmp_path / "ml", job, hosts=("algo-1", "algo-2"), channels=channels)
    container = engine.start(
        gpu, root, name="temper-alone", environment={"TEMPER_JOIN_TIMEOUT_S": "2"}
    )
    assert container.finish() == 4, container.log
    assert "algo-2 did not join within 2 s (here: algo-1)" in failure(root)
