"""Images are built by the make target, on a base made here, and keep SageMaker's contract for real.

`make image-test`. One node and two, stopped and started again, given a broken job and a bad disk.
Each kind of image is built and tried by one process, beside the other's; what all kinds have in
common is tried on one of them.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from launch.rehearsal.machine import Engine as Machine
from launch.rehearsal.machine import Order
from tests.containers.engine import Container, Engine, why_not
from tests.containers.laying import failure, lay_out
from tests.running import ROOT, Run, changed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.image,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "can run here"),
]

on_gpu = pytest.mark.xdist_group("gpu")
on_neuron = pytest.mark.xdist_group("neuron")
on_each = pytest.mark.parametrize(
    "kind", [pytest.param("gpu", marks=on_gpu), pytest.param("neuron", marks=on_neuron)]
)

IMAGES = {"gpu": "localhost/temper-gpu:test", "neuron": "localhost/temper-neuron:test"}
SHARED = ROOT.parent / "shared"
NETWORK = "temper-image-test"
COMMIT = "0123456789abcdef"


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine.here(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="session")
def gpu(engine: Engine) -> str:
    engine.build("gpu", IMAGES["gpu"], COMMIT=COMMIT)
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
    told = yaml.safe_load((SHARED / "contract/jobs/03-sft-csv.yaml").read_text())
    told = changed(
        told,
        model={"source": "/opt/ml/input/data/model"},
        data={"train": "channel:train"},
        # Long enough to be stopped half-way.
        train={"num_train_epochs": 4},
    )
    return told, {
        "train": SHARED / "contract/data/medquad.csv",
        "model": SHARED / "data/models/stories260K-hf",
    }


# --- what is in it -------------------------------------------------------------------------------


@on_gpu
def test_labels_and_bill_of_materials(engine: Engine, gpu: str) -> None:
    facts = json.loads(engine.call("image", "inspect", gpu))[0]
    labels = facts["Config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == COMMIT
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


@on_gpu
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


@on_each
def test_health_check(engine: Engine, kind: str, request: pytest.FixtureRequest) -> None:
    image = request.getfixturevalue(kind)
    asked = engine.run("run", "--rm", image, "health", "--devices", "8")
    assert asked.returncode == 1, asked.stderr
    facts = json.loads(asked.stdout)
    assert facts["faults"] == ["8 accelerators are wanted, 0 are here"], "and nothing else is wrong"
    assert facts["packages"]["torch"].startswith("2.13.")
    assert facts["packages"]["temper"] == "0.1.0"
    assert (facts["packages"]["deepspeed"] is None) == (kind == "neuron")
    assert facts["torch"]["gloo"]
    # Podman does not show an image's health check, but keeps its text.
    assert re.search(
        r"HEALTHCHECK .*/opt/temper/start.*health", engine.call("history", "--no-trunc", image)
    )
    engine.call("run", "--rm", image, "health")


# --- SageMaker's contract ------------------------------------------------------------------------


def assert_is_kept(root: Path) -> None:
    """Fail unless the run in `/opt/ml` has ended, and its model is where it is uploaded from."""
    run = Run(root / "checkpoints")
    assert run.state == "finished"
    assert [step["step"] for step in run.samples] == list(range(1, len(run.samples) + 1))
    for name in ("config.json", "model.safetensors", "tokenizer.json", "README.md"):
        assert (root / "model" / name).is_file()
    assert failure(root) == ""


@on_gpu
def test_a_contract_job_stops_with_a_checkpoint_and_goes_on_to_its_model(
    engine: Engine, gpu: str, contract: tuple[Any, dict[str, Path]], tmp_path: Path
) -> None:
    job, channels = contract
    root = lay_out(tmp_path / "ml", job, channels=channels)
    with engine.started(gpu, root, name="temper-stopped") as container:
        container.wait_for_step(3)
        container.send("TERM")
        assert container.finish() == 75, container.log
    run = Run(root / "checkpoints")
    assert run.state == "stopped"
    assert json.loads((run.path / "manifest.json").read_text())["commit"] == COMMIT
    last = run.samples[-1]["step"]
    assert run.checkpoints[-1] == f"checkpoint-{last}"
    assert failure(root) == ""
    # What comes back from S3 are files, not links.
    elsewhere = lay_out(tmp_path / "again", job, channels=channels)
    shutil.copytree(root / "checkpoints", elsewhere / "checkpoints", dirs_exist_ok=True)
    with engine.started(gpu, elsewhere, name="temper-again") as container:
        assert container.finish() == 0, container.log
        assert "going on with" in container.log
    run = Run(elsewhere / "checkpoints")
    assert len(run.samples) > last
    assert f"checkpoint-{last}" in run.log, "taken up from the checkpoint"
    assert_is_kept(elsewhere)


@on_neuron
def test_a_rehearsed_machine_runs_a_contract_job_in_the_image(
    engine: Engine,
    neuron: str,
    contract: tuple[Any, dict[str, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`make rehearse IMAGE=…` starts containers so."""
    for name, value in engine.environment.items():
        monkeypatch.setenv(name, value)
    job, channels = contract
    root = lay_out(tmp_path / "ml", job, channels=channels, instance="ml.trn2.48xlarge")
    environment = {"TRAINING_JOB_NAME": "image-test", "OMP_NUM_THREADS": "1"}
    order = Order(root, tmp_path, "algo-1", ("algo-1",), environment, isolated=True, image="")
    machine = Machine(engine.name, neuron)
    process = machine.start(order)
    try:
        said, _ = process.communicate(timeout=1200)
    finally:
        machine.end(process)
    assert process.returncode == 0, said.decode()
    assert_is_kept(root)


@on_neuron
def test_a_broken_job_is_explained(
    engine: Engine, neuron: str, job: dict[str, Any], tmp_path: Path
) -> None:
    broken = changed(job, method={"kind": "sfft"}, train={"learning_rat": 1})
    root = lay_out(tmp_path / "ml", broken)
    with engine.started(neuron, root, name="temper-broken") as container:
        assert container.finish() == 2, container.log
        log = container.log
    for word in ("2 problems", "method.kind: no such kind", "Did you mean sft?", "learning_rat"):
        assert word in failure(root)
        assert word in log
    assert "Traceback" not in log


@on_neuron
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--volume", "{disk}:/opt/ml/model:ro"), "/opt/ml/model cannot be written"),
        (("--tmpfs", "/opt/ml/model:size=1m"), "/opt/ml/model has"),
    ],
    ids=["read-only", "full"],
)
def test_a_disk_that_cannot_take_the_model(
    engine: Engine,
    neuron: str,
    job: dict[str, Any],
    tmp_path: Path,
    options: tuple[str, ...],
    words: str,
) -> None:
    root = lay_out(tmp_path / "ml", job)
    disk = tmp_path / "disk"
    disk.mkdir()
    told = tuple(option.format(disk=disk) for option in options)
    with engine.started(neuron, root, name="temper-disk", options=told) as container:
        assert container.finish() == 4, container.log
        assert words in container.log
    assert words in failure(root)


# --- two nodes -----------------------------------------------------------------------------------


@pytest.fixture
def network(engine: Engine) -> Iterator[str]:
    engine.call("network", "rm", "--force", NETWORK, check=False)
    engine.call("network", "create", NETWORK)
    yield NETWORK
    engine.call("network", "rm", "--force", NETWORK, check=False)


@contextmanager
def started_two(
    engine: Engine, image: str, roots: list[Path], network: str
) -> Iterator[list[Container]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                engine.started(
                    image,
                    root,
                    name=f"temper-algo-{number}",
                    options=(
                        *("--network", network, "--hostname", f"algo-{number}"),
                        *("--network-alias", f"algo-{number}"),
                    ),
                )
            )
            for number, root in enumerate(roots, start=1)
        ]


@on_gpu
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
    with started_two(engine, gpu, roots, network) as (first, other):
        first.wait_for_step(4)
        other.send("TERM")
        codes = [first.finish(), other.finish()]
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
    with started_two(engine, gpu, roots, network) as (first, other):
        codes = [first.finish(), other.finish()]
        assert codes == [0, 0], first.log + other.log
        assert "going on with" in first.log
    assert_is_kept(roots[0])
    assert len(runs[0].samples) == 24


@on_neuron
def test_a_container_that_stays_alone_names_the_missing_one(
    engine: Engine, neuron: str, job: dict[str, Any], channels: dict[str, Path], tmp_path: Path
) -> None:
    root = lay_out(tmp_path / "ml", job, hosts=("algo-1", "algo-2"), channels=channels)
    patience = {"TEMPER_JOIN_TIMEOUT_S": "2"}
    with engine.started(neuron, root, name="temper-alone", environment=patience) as container:
        assert container.finish() == 4, container.log
    assert "algo-2 did not join within 2 s (here: algo-1)" in failure(root)
