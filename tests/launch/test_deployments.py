"""Rehearsal of deployments to every target, with containers that answer from their files."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import boto3
import pytest

from deployment.spec import TARGET_KINDS
from emulator.deployments.rehearsed_kinds import GPU
from emulator.deployments.scenario import STEPS, DeploymentScenario
from emulator.environment import EmulatedEnvironment, emulated_services
from emulator.job_lifecycle import ServiceTimings
from emulator.kubernetes.cluster import emulated_cluster, why_no_cluster
from emulator.model_process import ModelProcess
from emulator.moto_account import moto_server
from temper.cli import main
from tests.containers.image_layout import free_port
from tests.launch.emulated_platform import publish_platform
from tests.unit.deployment.conftest import reply
from tests.unit.emulator.bedrock import make_importable_model
from tests.unit.emulator.conftest import CONTAINER, PlainRuntime
from tests.unit.launch.fake_accounts import DEV
from tests.unit.registry.runs import make_run
from training.export.checksums import write_checksums

VERSIONS = ("first", "second", "third")
"""Answer of each version."""


class PlainModelProcess(ModelProcess):
    """Process of a model in Bedrock that answers from the model's files."""

    def __init__(self, folder: Path, log: Path):
        home = log.parent / folder.name
        home.mkdir(parents=True)
        (home / "model").symlink_to(folder)
        self._up, self._log = threading.Event(), log
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", str(CONTAINER), str(home), "serve"],
            env={"PATH": os.environ["PATH"], "SAGEMAKER_BIND_TO_PORT": str(port)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.01)
        self._up.set()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedEnvironment]:
    """Yield an account with the parameters of the platform, and services whose clock is moved."""
    work = tmp_path_factory.mktemp("work")
    with moto_server(work / "moto.log") as port:
        session = boto3.Session("test", "test", region_name=DEV.region)
        publish_platform(partial(session.client, endpoint_url=f"http://localhost:{port}"))
        with emulated_services(
            DEV, work, port, PlainRuntime(), ServiceTimings(), PlainModelProcess
        ) as emulated:
            yield emulated


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Return the runs of the versions; the models of all can be imported by Bedrock."""
    root = tmp_path_factory.mktemp("runs")
    model = make_importable_model(root / "llama")
    made = []
    for text in VERSIONS:
        run = make_run(root, text)
        for folder in (run / "model", run / "export" / "transformers-4"):
            shutil.copytree(model, folder, dirs_exist_ok=True)
            (folder / "reply.json").write_text(reply(text))
        write_checksums(run / "model")
        made.append(run)
    return tuple(made)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Return the runs of the versions of an adapter."""
    root, made = tmp_path_factory.mktemp("adapters"), []
    for text in VERSIONS:
        run = make_run(root, text)
        for name, content in {
            "adapter_config.json": '{"r": 16}',
            "answer.txt": reply(text),
        }.items():
            (run / "model" / name).write_text(content)
        write_checksums(run / "model")
        made.append(run)
    return tuple(made)


@pytest.mark.slow
def test_every_target_goes_up_is_swapped_rolls_back_and_comes_down(
    environment: EmulatedEnvironment,
    runs: tuple[Path, ...],
    adapters: tuple[Path, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    kinds = set(TARGET_KINDS) - ({"hyperpod"} if why_no_cluster() else set())
    with capsys.disabled(), emulated_cluster(environment, GPU) as cluster:
        scenario = DeploymentScenario(
            environment, runs, main, print, sorted(kinds), adapters, cluster
        )
        result = scenario.run()
    assert set(result.versions) == {"adapter", *kinds}
    first, second, _ = VERSIONS
    for kind, answers in result.answers.items():
        swapped = [second] * (len(answers) - 1)
        assert list(answers.values()) == [first, *swapped], kind
    assert all(tuple(steps) == STEPS for steps in result.seconds.values())
