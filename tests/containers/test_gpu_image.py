"""The image for GPUs, built by the make target on a base made here, keeps SageMaker's contract.

`make image-test`. One node and two, stopped and started again.
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

from tests.containers.engine import Container, Engine
from tests.containers.image_layout import failure, lay_out
from tests.containers.images import assert_is_healthy, assert_is_kept, image_test
from tests.run_commands import ROOT, Run, changed

pytestmark = image_test

IMAGE = "localhost/temper-gpu:test"
NETWORK = "temper-image-test"
COMMIT = "0123456789abcdef"


@pytest.fixture(scope="module")
def image(engine: Engine) -> str:
    engine.build("gpu", IMAGE, COMMIT=COMMIT)
    return IMAGE


# --- what is in it -------------------------------------------------------------------------------


def test_labels_and_bill_of_materials(engine: Engine, image: str) -> None:
    facts = json.loads(engine.call("image", "inspect", image))[0]
    labels = facts["Config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == COMMIT
    assert labels["org.opencontainers.image.version"] == "0.2.0"
    assert labels["org.opencontainers.image.base.name"] == engine.base()
    bill = json.loads(
        engine.call("run", "--rm", "--entrypoint", "cat", image, "/opt/temper/sbom.json")
    )
    assert bill["bomFormat"] == "CycloneDX"
    # Packages spell their own names as they please; of two versions, one is marked as imported.
    other = {"name": "temper:imported", "value": "false"}
    found = {
        re.sub(r"[-_.]+", "-", part["name"]).lower(): part["version"]
        for part in bill["components"]
        if other not in part.get("properties", [])
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


def test_no_build_tools_in_layers(engine: Engine, image: str) -> None:
    look = (
        "find / -xdev -path '*secrets/ca*' -size +0 -type f; find / -xdev -name '*.whl' -type f; "
        "find /root/.cache /opt/tools /src -maxdepth 0"
    )
    found = engine.call(
        "run", "--rm", "--entrypoint", "sh", image, "-c", f"({look}) 2>/dev/null; :"
    )
    # Debian's Python carries the wheel of its pip.
    assert [
        line
        for line in found.splitlines()
        if "ensurepip" not in line and "python-wheels" not in line
    ] == []
    history = engine.call("history", "--no-trunc", image)
    assert "BEGIN CERTIFICATE" not in history


def test_health_check(engine: Engine, image: str) -> None:
    assert_is_healthy(engine, image, deepspeed=True)


# --- SageMaker's contract ------------------------------------------------------------------------


def test_contract_job_stops_and_resumes(
    engine: Engine, image: str, contract: tuple[Any, dict[str, Path]], tmp_path: Path
) -> None:
    job, channels = contract
    root = lay_out(tmp_path / "ml", job, channels=channels)
    with engine.started(image, root, name="temper-stopped") as container:
        container.wait_for_step(3)
        container.send("TERM")
        assert container.finish() == 75, container.log
    run = Run(root / "checkpoints")
    assert run.state == "stopped"
    assert json.loads((run.path / "manifest.json").read_text())["commit"] == COMMIT
    last = run.samples[-1]["step"]
    assert run.checkpoints[-1] == f"checkpoint-{last}"
    assert failure(root) == ""
    # A download from S3 contains files, not links.
    elsewhere = lay_out(tmp_path / "again", job, channels=channels)
    shutil.copytree(root / "checkpoints", elsewhere / "checkpoints", dirs_exist_ok=True)
    with engine.started(image, elsewhere, name="temper-again") as container:
        assert container.finish() == 0, container.log
        assert "resuming" in container.log
    run = Run(elsewhere / "checkpoints")
    assert len(run.samples) > last
    assert f"checkpoint-{last}" in run.log, "taken up from the checkpoint"
    assert_is_kept(elsewhere)


def test_unreadable_secret(
    engine: Engine, image: str, contract: tuple[Any, dict[str, Path]], tmp_path: Path
) -> None:
    """The SDK is in the image, and what it needs is not: no role, and no service to ask."""
    job, channels = contract
    root = lay_out(tmp_path / "ml", job, channels=channels)
    variables = {
        "TEMPER_SECRETS": '{"HF_TOKEN": "temper-dev/hub-token"}',
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with engine.started(image, root, name="temper-secret", environment=variables) as container:
        assert container.finish() == 4, container.log
    assert "the secret temper-dev/hub-token, for HF_TOKEN" in failure(root)
    assert "this container has no role" in failure(root)
    assert "Traceback" not in container.log


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


def test_two_containers_stop_and_resume(
    engine: Engine,
    image: str,
    network: str,
    channel_job: dict[str, Any],
    channels: dict[str, Path],
    tmp_path: Path,
) -> None:
    # Enough steps that the signal arrives before the last: one takes hundredths of a second.
    steps = 240
    train = {"max_steps": steps, "micro_batch_size": 4}
    job = changed(channel_job, train=train, sharding={"zero": 2})
    hosts = ("algo-1", "algo-2")
    roots = [
        lay_out(tmp_path / host, job, hosts=hosts, current=host, channels=channels)
        for host in hosts
    ]
    with started_two(engine, image, roots, network) as (first, other):
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
    with started_two(engine, image, roots, network) as (first, other):
        codes = [first.finish(), other.finish()]
        assert codes == [0, 0], first.log + other.log
        assert "resuming" in first.log
    assert_is_kept(roots[0])
    assert len(runs[0].samples) == steps
