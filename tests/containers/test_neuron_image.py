"""The image for Trainium, built by the make target, says what is wrong with a job or a disk.

`make image-test`. What all kinds of images have in common is tried on one of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emulator.instance import ContainerSpec
from emulator.instance import OciRuntime as Machine
from tests.containers.engine import Engine
from tests.containers.image_layout import failure, lay_out
from tests.containers.images import assert_is_healthy, assert_is_kept, image_test
from tests.run_commands import changed

pytestmark = image_test

IMAGE = "localhost/temper-neuron:test"


@pytest.fixture(scope="module")
def image(engine: Engine) -> str:
    engine.build("neuron", IMAGE, BUILD_ARGS="NEURON_INDEX=")
    return IMAGE


def test_health_check(engine: Engine, image: str) -> None:
    assert_is_healthy(engine, image, deepspeed=False)


def test_emulated_instance_runs_contract_job(
    engine: Engine,
    image: str,
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
    order = ContainerSpec(
        root,
        tmp_path,
        "algo-1",
        ("algo-1",),
        environment,
        isolated=True,
        image="",
        job="image-test",
    )
    machine = Machine(engine.name, image)
    process = machine.start(order)
    try:
        output, _ = process.communicate(timeout=1200)
    finally:
        machine.kill(process)
    assert process.returncode == 0, output.decode()
    assert_is_kept(root)


def test_invalid_job_is_explained(
    engine: Engine, image: str, channel_job: dict[str, Any], tmp_path: Path
) -> None:
    broken = changed(channel_job, method={"kind": "sfft"}, train={"learning_rat": 1})
    root = lay_out(tmp_path / "ml", broken)
    with engine.started(image, root, name="temper-broken") as container:
        assert container.finish() == 2, container.log
        log = container.log
    for word in ("2 problems", "method.kind: no such kind", "Did you mean sft?", "learning_rat"):
        assert word in failure(root)
        assert word in log
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--volume", "{disk}:/opt/ml/model:ro"), "/opt/ml/model cannot be written"),
        (("--tmpfs", "/opt/ml/model:size=1m"), "/opt/ml/model has"),
    ],
    ids=["read-only", "full"],
)
def test_disk_too_small_for_model(
    engine: Engine,
    image: str,
    channel_job: dict[str, Any],
    tmp_path: Path,
    options: tuple[str, ...],
    words: str,
) -> None:
    root = lay_out(tmp_path / "ml", channel_job)
    disk = tmp_path / "disk"
    disk.mkdir()
    told = tuple(option.format(disk=disk) for option in options)
    with engine.started(image, root, name="temper-disk", options=told) as container:
        assert container.finish() == 4, container.log
        assert words in container.log
    assert words in failure(root)


def test_missing_node_is_named(
    engine: Engine,
    image: str,
    channel_job: dict[str, Any],
    channels: dict[str, Path],
    tmp_path: Path,
) -> None:
    root = lay_out(tmp_path / "ml", channel_job, hosts=("algo-1", "algo-2"), channels=channels)
    patience = {"TEMPER_JOIN_TIMEOUT_S": "2"}
    with engine.started(image, root, name="temper-alone", environment=patience) as container:
        assert container.finish() == 4, container.log
    assert "algo-2 did not join within 2 s (here: algo-1)" in failure(root)
