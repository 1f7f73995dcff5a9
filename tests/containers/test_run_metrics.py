"""Metrics of a run on a cluster, published to an emulated CloudWatch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import boto3
import pytest
from moto import mock_aws
from moto.server import ThreadedMotoServer

from account.cloudwatch import MetricPublisher
from catalog import run_metrics as contract
from catalog.exit_codes import STOPPED
from containers.entrypoint import run_metrics
from containers.entrypoint.node_identity import NodeIdentity
from containers.entrypoint.run_metrics import RunMetrics, host_metrics, start_run_metrics
from tests.containers.image_layout import lay_out, run
from training.errors import GuardError
from training.guards.finite_loss import FiniteLoss
from training.step_metrics import StepMetrics

NAMESPACE = contract.metric_namespace("temper-dev")
JOB = "tiny-20261128-1"


@pytest.fixture
def cloudwatch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        yield boto3.client("cloudwatch", region_name="us-east-1")


def values(cloudwatch: Any, name: str, dimension: str = contract.JOB_DIMENSION) -> list[float]:
    """Return the sum and the number of values of one metric; empty if it was not published."""
    of = JOB if dimension == contract.JOB_DIMENSION else contract.host_name(JOB, 1)
    # Moto's clock and ours need not agree to the second.
    now = datetime.now()
    points = cloudwatch.get_metric_statistics(
        Namespace=NAMESPACE,
        MetricName=name,
        Dimensions=[{"Name": dimension, "Value": of}],
        StartTime=now - timedelta(days=1),
        EndTime=now + timedelta(days=1),
        Period=86400,
        Statistics=["Sum", "SampleCount"],
    )["Datapoints"]
    return [v for p in points for v in (p["Sum"], p["SampleCount"])]


def log(folder: Path, *rows: dict[str, Any], file: str = "metrics.jsonl") -> None:
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)


def publisher(folder: Path | None, rank: int = 0, **more: Any) -> RunMetrics:
    return RunMetrics(MetricPublisher(NAMESPACE).put, JOB, rank, folder, **more)


def test_progress_of_a_run(cloudwatch: Any, tmp_path: Path) -> None:
    log(tmp_path, {"step": 1, "loss": 9.0, "seconds": 1.0})  # of an earlier start
    metrics = publisher(tmp_path)
    metrics.tick()
    assert values(cloudwatch, "running") == []  # no step yet: loading the model is not training
    assert values(cloudwatch, "DiskUtilization", contract.HOST_DIMENSION)
    log(tmp_path, {"step": 2, "loss": 2.0, "tokens_per_second": 100, "seconds": 2.0})
    log(tmp_path, {"step": 2, "eval_loss": 7.0})
    log(tmp_path, {"step": 3, "loss": 3.0, "seconds": 3.0}, file="stages/02-dpo/metrics.jsonl")
    metrics.tick()
    metrics.tick()
    assert values(cloudwatch, "loss") == [5.0, 2.0]
    assert values(cloudwatch, "tokens_per_second") == [100.0, 1.0]
    assert values(cloudwatch, "running") == [2.0, 2.0]
    published = {m["MetricName"] for m in cloudwatch.list_metrics(Namespace=NAMESPACE)["Metrics"]}
    assert published <= {*contract.JOB_METRICS, *contract.HOST_METRICS}


def test_steps_after_a_resume_are_counted_once(cloudwatch: Any, tmp_path: Path) -> None:
    metrics = publisher(tmp_path)
    log(tmp_path, *({"step": s, "loss": 1.0, "seconds": float(s)} for s in (1, 2, 3)))
    metrics.tick()
    kept = (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True)[:2]
    replaced = tmp_path / "metrics.new"
    replaced.write_text("".join(kept))
    replaced.replace(tmp_path / "metrics.jsonl")  # as a resume from checkpoint 2 does
    log(tmp_path, {"step": 3, "loss": 1.0, "seconds": 0.5})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # not written to its end yet
    metrics.tick()
    assert values(cloudwatch, "loss") == [4.0, 4.0]


def test_followers_publish_their_host_only(cloudwatch: Any, tmp_path: Path) -> None:
    metrics = publisher(None, rank=1)
    log(tmp_path, {"step": 1, "loss": 1.0})
    metrics.tick()
    metrics.close(4, "failed elsewhere")
    published = cloudwatch.list_metrics(Namespace=NAMESPACE)["Metrics"]
    assert {m["Dimensions"][0]["Value"] for m in published} == {contract.host_name(JOB, 2)}


def test_gpus_are_summed_as_sagemaker_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho '97, 40960, 81920'\necho '3, 20480, 81920'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = host_metrics()
    assert found.pop("DiskUtilization") == pytest.approx(50, abs=50)
    assert found == {"GPUUtilization": 100, "GPUMemoryUtilization": 75, "GPUCount": 2}
    smi.write_text("#!/bin/sh\necho 'No devices were found'; exit 6\n")
    assert set(host_metrics()) == {"DiskUtilization"}


def test_a_loss_that_is_nan_is_published_once_and_never_as_a_loss(
    cloudwatch: Any, tmp_path: Path
) -> None:
    metrics = publisher(tmp_path)
    log(tmp_path, {"step": 1, "loss": float("nan")}, {"step": 2, "loss": float("inf")})
    metrics.tick()
    metrics.close(4, "the loss of step 2 is inf (rows a; …)")
    assert values(cloudwatch, "loss_not_finite") == [1.0, 1.0]
    assert values(cloudwatch, "loss") == []


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_the_guards_message_is_recognized(cloudwatch: Any, tmp_path: Path, loss: float) -> None:
    facts = StepMetrics(**_step(loss))
    with pytest.raises(GuardError) as stopped:
        FiniteLoss("bf16").on_step(facts, None)
    publisher(tmp_path).close(4, str(stopped.value))
    assert values(cloudwatch, "loss_not_finite") == [1.0, 1.0]


def _step(loss: float) -> dict[str, Any]:
    given = {"step": 3, "loss": loss, "row_ids": ("a",), "learning_rate": 1e-4}
    blank = {
        f.name: 0
        for f in dataclasses.fields(StepMetrics)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    return {**blank, **given}


@pytest.mark.parametrize(
    ("code", "restarts", "published"),
    [
        (0, 0, []),
        (STOPPED, 0, []),  # saved a checkpoint, and will be requeued
        (4, 0, [4.0, 1.0]),
        (2, 0, [2.0, 1.0]),
        (137, 0, []),  # the batch script requeues what was killed from outside …
        (137, 5, [137.0, 1.0]),  # … five times
    ],
)
def test_failed_is_published_only_if_no_start_follows(
    cloudwatch: Any, tmp_path: Path, code: int, restarts: int, published: list[float]
) -> None:
    publisher(tmp_path, restarts=restarts).close(code, "reason")
    assert values(cloudwatch, "failed") == published


def _creators(cloudwatch: Any, name: str) -> list[str]:
    """Return the creators under which a metric is listed."""
    listed = cloudwatch.list_metrics(Namespace=NAMESPACE, MetricName=name)["Metrics"]
    dimensions = [d for metric in listed for d in metric["Dimensions"]]
    return [d["Value"] for d in dimensions if d["Name"] == contract.CREATOR_DIMENSION]


def test_a_creator_is_published_while_the_run_trains(cloudwatch: Any, tmp_path: Path) -> None:
    metrics = publisher(tmp_path, creator="CORP/änne")
    log(tmp_path, {"step": 1, "loss": 2.0, "seconds": 1.0})
    metrics.tick()
    [creator] = _creators(cloudwatch, "running")
    assert creator.isascii() and unquote(creator) == "CORP/änne"
    assert _creators(cloudwatch, contract.ENDED) == []


@pytest.mark.parametrize(
    ("code", "restarts", "requeued", "ended"),
    [
        (0, 0, False, True),
        (4, 0, False, True),
        (STOPPED, 0, False, True),
        (STOPPED, 0, True, False),  # Slurm requeues it after a preemption
        (137, 0, False, False),  # the batch script requeues it
        (137, 5, False, True),
    ],
)
def test_the_end_is_published_if_it_is_final(
    cloudwatch: Any, tmp_path: Path, code: int, restarts: int, requeued: bool, ended: bool
) -> None:
    metrics = publisher(tmp_path, creator="anna", restarts=restarts)
    metrics.close(code, "reason", requeued=requeued)
    assert _creators(cloudwatch, contract.ENDED) == (["anna"] if ended else [])


def test_followers_and_runs_without_a_creator_publish_no_end(
    cloudwatch: Any, tmp_path: Path
) -> None:
    publisher(None, rank=1, creator="anna").close(0, "")
    publisher(tmp_path).close(0, "")
    assert _creators(cloudwatch, contract.ENDED) == []


def test_without_credentials_one_warning_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    metrics = publisher(tmp_path)
    metrics.tick()
    metrics.tick()
    metrics.close(0, "")
    error = capsys.readouterr().err
    assert error.count("warning: the metrics of this run are not in CloudWatch") == 1
    assert "NoCredentialsError" in error and "training continues" in error


def test_nothing_is_published_unless_the_launcher_asks(tmp_path: Path) -> None:
    identity = NodeIdentity("slurm", ("n1",))
    assert start_run_metrics({}, identity, tmp_path) is None
    assert start_run_metrics({run_metrics.JOB: JOB}, identity, tmp_path) is None


@pytest.mark.slow
def test_a_run_through_the_entry_point(
    tmp_path: Path, document: dict[str, Any], pairs: Path
) -> None:
    """A job that fails and one that trains, with the metrics of their ends in CloudWatch."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "cloudwatch",
        region_name="us-east-1",
        endpoint_url=f"http://{host}:{port}",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    variables = {
        run_metrics.NAMESPACE: NAMESPACE,
        run_metrics.JOB: JOB,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    try:
        root = lay_out(tmp_path / "bad", {"name": "a b", "model": {}, "method": {"kind": "x"}})
        code, output = run(root, **variables)
        assert code == 2, output
        assert values(client, "failed") == [2.0, 1.0]
        good = {**document, "data": {**document["data"], "train": str(pairs)}}
        good["train"] = {**document["train"], "max_steps": 2}
        code, output = run(lay_out(tmp_path / "good", good), **variables)
        assert code == 0, output
        assert values(client, "loss")[1:] and values(client, "running")
        assert values(client, "failed") == [2.0, 1.0]
        assert "not in CloudWatch" not in output
    finally:
        server.stop()
