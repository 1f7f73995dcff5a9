"""A preparation on several nodes, on a shared disk and in S3: the same rows as on one machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from preparation.executors.nodes import Barrier, Node, this_node
from training.errors import RunError

pytest.importorskip("moto.server", reason="the extra `infra` is not installed")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("sources")
    rows = [{"text": " ".join(f"w{n % 40}x{k}" for k in range(300))} for n in range(1500)]
    for part in range(3):
        path = folder / f"{part}.jsonl"
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows[part::3]))
    return {
        "name": "tidy",
        "prepare": {
            "sources": str(folder),
            "steps": [{"step": "normalise"}, {"step": "duplicates", "action": "drop"}],
            "split": {"validation": 0.2},
            "unit_mib": 1,
            "workers": 1,
        },
    }


def _start(
    folder: Path, job: dict[str, Any], output: str, environment: dict[str, str]
) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump({**job, "prepare": {**job["prepare"], "output": output}}))
    import os

    return subprocess.Popen(
        [sys.executable, "-m", "temper", "prepare", str(path)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _end(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return output


def _slurm(index: int) -> dict[str, str]:
    return {"SLURM_NTASKS": "2", "SLURM_PROCID": str(index), "SLURM_JOB_ID": "5"}


def _bytes(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_two_nodes_and_s3_give_the_same_bytes_as_one_machine(
    tmp_path: Path, job: dict[str, Any]
) -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    _end(_start(tmp_path, job, str(tmp_path / "one"), {}))
    nodes = [_start(tmp_path / f"n{i}", job, str(tmp_path / "two"), _slurm(i)) for i in range(2)]
    for node in nodes:
        _end(node)
    one = _bytes(tmp_path / "one" / "tidy" / "latest")
    assert any(name.startswith("train/") for name in one)
    assert _bytes(tmp_path / "two" / "tidy" / "latest") == one

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        environment = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "us-east-1",
        }
        client = boto3.client(
            "s3",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        client.create_bucket(Bucket="nodes")
        nodes = [
            _start(tmp_path / f"s{i}", job, "s3://nodes/sets", environment | _slurm(i))
            for i in range(2)
        ]
        for node in nodes:
            _end(node)
        listed = client.list_objects_v2(Bucket="nodes")["Contents"]
        stored = {
            item["Key"]: client.get_object(Bucket="nodes", Key=item["Key"])["Body"].read()
            for item in listed
            if not item["Key"].endswith("/")  # empty objects that pyarrow makes for folders
        }
    finally:
        server.stop()
    digest = json.loads(one["report.json"])["digest"]
    assert stored.pop("sets/tidy/latest") == digest.encode()
    assert {key.removeprefix(f"sets/tidy/{digest}/"): value for key, value in stored.items()} == one


def test_the_place_of_a_node_is_known(tmp_path: Path) -> None:
    hosts = tmp_path / "resourceconfig.json"
    hosts.write_text(json.dumps({"current_host": "algo-2", "hosts": ["algo-2", "algo-1"]}))
    assert this_node({}, tmp_path / "none") == Node()
    assert this_node({}, hosts) == Node(1, 2, "processing")
    request = tmp_path / "processingjobconfig.json"
    request.write_text(json.dumps({"ProcessingJobName": "temper-dev-tidy-2"}))
    assert this_node({}, hosts) == Node(1, 2, "temper-dev-tidy-2"), "not the attempt before it"
    assert this_node(_slurm(1), tmp_path / "none") == Node(1, 2, "5.0")
    assert sorted([*Node(0, 2).tasks(5), *Node(1, 2).tasks(5)]) == [0, 1, 2, 3, 4]


def test_a_node_that_fails_ends_the_others(tmp_path: Path) -> None:
    from preparation.storage import open_folder

    folder = open_folder(str(tmp_path))
    Barrier(Node(1, 2, "a"), folder).fail(RunError("disk is full"))
    with pytest.raises(RunError, match="node 1 failed: disk is full"):
        Barrier(Node(0, 2, "a"), folder).wait(lambda: False)
    calls = iter((False, True))
    Barrier(Node(0, 2, "b"), folder).wait(lambda: next(calls))
