"""A preparation with all steps: the same bytes on one machine, nodes, Slurm, Ray and in S3."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from launch.inspect_run import open_run
from launch.status import Status
from tests.emulated_s3 import emulated_s3, s3_client
from tests.launch.ray_packages import ray_path
from tests.launch.slurm_cluster import SlurmCluster, slurm_cluster, why_not

pytestmark = pytest.mark.slow

TEMPER = [sys.executable, "-m", "temper"]
needs_slurm = [
    pytest.mark.root,
    pytest.mark.skipif(why_not() != "", reason=why_not()),
]


def _rows() -> list[dict[str, str]]:
    generator = random.Random(3)
    words = [f"w{k}" for k in range(400)] + ["the", "and", "of", "with", "Anna", "pump"] * 40
    rows = []
    for n in range(240):
        text = " ".join(generator.choices(words, k=150)) + f". Write to user{n}@example.com.\n\n"
        rows.append({"text": text + " ".join(generator.choices(words, k=60)) + "."})
    return rows + [{"text": row["text"] + " Again."} for row in rows[::5]]


def _tokenizer(folder: Path) -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder / "tokenizer.json")


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return a job with every step, and its sources."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "sources").mkdir()
    rows = _rows()
    for part in range(4):
        lines = [orjson.dumps(row) + b"\n" for row in rows[part::4]]
        (folder / "sources" / f"{part}.jsonl").write_bytes(b"".join(lines))
    items = [{"prompt": row["text"][:300], "completion": "yes"} for row in rows[:3]]
    (folder / "benchmark.jsonl").write_bytes(b"".join(orjson.dumps(i) + b"\n" for i in items))
    examples = {"good": str(folder / "good.jsonl"), "bad": str(folder / "bad.jsonl")}
    for path, texts in ((examples["good"], rows[:60]), (examples["bad"], rows[60:120])):
        Path(path).write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in texts))
    steps: list[dict[str, Any]] = [
        {"step": "normalise"},
        {"step": "language"},
        {"step": "personal_data"},
        {"step": "secrets"},
        {"step": "quality", "rules": ["gopher"]},
        {"step": "quality_classifier", **examples},
        {"step": "toxicity"},
        {"step": "duplicates", "action": "drop"},
        {"step": "chunk", "max_characters": 600},
        {"step": "decontaminate", "against": [str(folder / "benchmark.jsonl")], "action": "drop"},
        {"step": "tokenizer_statistics", "tokenizer": _tokenizer(folder)},
    ]
    sources = [str(folder / "sources" / f"{part}.jsonl") for part in range(4)]
    split = {"validation": 0.2}
    return {
        "name": "tidy",
        "prepare": {"sources": sources, "steps": steps, "split": split, "workers": 1},
    }


def _job(folder: Path, document: dict[str, Any], output: str = "out") -> str:
    folder.mkdir(exist_ok=True)
    path = folder / "job.yaml"
    prepare = {**document["prepare"], "output": output}
    path.write_text(yaml.safe_dump({**document, "prepare": prepare}))
    return str(path)


def _bytes(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _start(job: str, *options: str, **environment: str) -> subprocess.Popen[str]:
    folder = Path(job).parent
    return subprocess.Popen(
        [*TEMPER, "prepare", job, *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _end(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]) -> dict[str, bytes]:
    """Return the files that one process on one machine writes."""
    folder = tmp_path_factory.mktemp("local")
    _end(_start(_job(folder, document)))
    files = _bytes(folder / "out/tidy/latest")
    report = json.loads(files["report.json"])
    assert len(report["steps"]) >= len(document["prepare"]["steps"])
    assert any(name.startswith("validation/") for name in files)
    return files


@pytest.fixture(scope="module")
def lab() -> Iterator[SlurmCluster]:
    with slurm_cluster() as cluster:
        yield cluster


def _nodes(folder: Path, document: dict[str, Any], _: Any) -> dict[str, bytes]:
    places = [
        {"SLURM_NTASKS": "2", "SLURM_PROCID": str(index), "SLURM_JOB_ID": "5"} for index in (0, 1)
    ]
    job = _job(folder, document)
    for process in [_start(job, **place) for place in places]:
        _end(process)
    return _bytes(folder / "out/tidy/latest")


def _s3(folder: Path, document: dict[str, Any], _: Any) -> dict[str, bytes]:
    # A bucket per test: all emulated servers of a process share their buckets.
    with emulated_s3() as environment:
        client = s3_client(environment)
        client.create_bucket(Bucket="executors")
        job = _job(folder, document, "s3://executors/sets")
        _end(_start(job, **environment))
        stored = {
            item["Key"]: client.get_object(Bucket="executors", Key=item["Key"])["Body"].read()
            for item in client.list_objects_v2(Bucket="executors")["Contents"]
            if not item["Key"].endswith("/")  # empty objects that pyarrow makes for folders
        }
    digest = stored.pop("sets/tidy/latest").decode()
    return {name.removeprefix(f"sets/tidy/{digest}/"): data for name, data in stored.items()}


def _ray(folder: Path, document: dict[str, Any], _: Any) -> dict[str, bytes]:
    output = _end(_start(_job(folder, document), "--target", "ray", PYTHONPATH=ray_path()))
    assert "Ray cluster: 1 machine, 1 CPU\n" in output
    return _bytes(folder / "out/tidy/latest")


def _until(
    happened: Callable[[], Any], process: subprocess.Popen[str] | None = None, pause_s: float = 0.2
) -> Any:
    end = time.monotonic() + 300
    while not (value := happened()):
        assert time.monotonic() < end, "did not happen"
        assert process is None or process.poll() is None, _end(process)
        time.sleep(pause_s)
    return value


def _status(folder: Path) -> Status:
    submission, target = open_run(folder / "runs", "tidy")
    return target.status(submission)


def _slurm(
    folder: Path, document: dict[str, Any], request: pytest.FixtureRequest
) -> dict[str, bytes]:
    """Run on two nodes of a real Slurm, and preempt the job in its first pass."""
    cluster: SlurmCluster = request.getfixturevalue("lab")
    monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    for name, value in {**cluster.variables, "SLURM_ROOT": str(folder / "shared")}.items():
        monkeypatch.setenv(name, value)
    job = _job(folder, document)
    options = ("--target", "slurm", "--nodes", "2")
    assert "temper logs tidy/" in _end(_start(job, *options))
    _until(lambda: list(folder.glob("out/tidy/.building-*/examine")))
    assert "queued already" in _end(_start(job, *options)), "two jobs write one folder"
    assert _status(folder).state == "training"
    (number,) = cluster.ask("squeue", "-h", "-o", "%i").split()
    cluster.ask("scancel", "--batch", "--signal=USR1", number)
    status = _until(lambda: _status(folder).is_over and _status(folder))
    submission, target = open_run(folder / "runs", "tidy")
    log = "\n".join(target.logs(submission, follow=False))
    assert (status.state, status.detail) == ("not deployed", "prepared"), log
    assert "requeued, and resumed" in log
    assert "start 1 on" in log
    return _bytes(folder / "out/tidy/latest")


@pytest.mark.parametrize("execute", [_nodes, _s3, _ray, pytest.param(_slurm, marks=needs_slurm)])
def test_every_executor_writes_the_bytes_of_one_process(
    execute: Callable[..., dict[str, bytes]],
    tmp_path: Path,
    document: dict[str, Any],
    local: dict[str, bytes],
    request: pytest.FixtureRequest,
) -> None:
    assert execute(tmp_path / "here", document, request) == local


@pytest.mark.parametrize("execute", [_ray, pytest.param(_slurm, marks=needs_slurm)])
def test_an_executor_reads_sources_in_s3(
    execute: Callable[..., dict[str, bytes]],
    tmp_path: Path,
    document: dict[str, Any],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with emulated_s3() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        client = s3_client(environment)
        bucket = f"sources-{execute.__name__.strip('_')}"
        client.create_bucket(Bucket=bucket)
        for path in document["prepare"]["sources"]:
            client.upload_file(path, bucket, f"raw/{Path(path).name}")
        prepare = {**document["prepare"], "sources": f"s3://{bucket}/raw"}
        remote = {**document, "prepare": prepare}
        _end(_start(_job(tmp_path / "one", remote)))
        expected = _bytes(tmp_path / "one/out/tidy/latest")
        assert execute(tmp_path / "here", remote, request) == expected


@pytest.mark.root
@pytest.mark.skipif(why_not() != "", reason=why_not())
def test_the_node_that_fails_in_slurm_is_named(
    lab: SlurmCluster,
    tmp_path: Path,
    document: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\n[ "$SLURM_PROCID" = 1 ] && { echo "disk is full" >&2; exit 4; }\n'
        f'exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    variables = {"SLURM_ROOT": str(tmp_path / "shared"), "SLURM_PYTHON": str(python)}
    for name, value in {**lab.variables, **variables}.items():
        monkeypatch.setenv(name, value)
    _end(_start(_job(tmp_path, document), "--target", "slurm", "--nodes", "2"))
    status = _until(lambda: _status(tmp_path).is_over and _status(tmp_path))
    assert status.state == "training failed"
    assert "n2: task 1: Exited with exit code 4; its message is in" in status.detail
    submission, target = open_run(tmp_path / "runs", "tidy")
    assert "disk is full" in list(target.logs(submission, follow=False))
