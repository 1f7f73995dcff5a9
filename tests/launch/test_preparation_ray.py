"""A preparation in a Ray cluster whose workers, or whose driver, are killed: the same bytes."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir

import orjson
import psutil
import pytest
import yaml

from tests.launch.ray_packages import ray_path

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("TEMPER_PREPARATION_KILLS", "3"))
CLUSTER = """
import sys
from preparation.executors.ray_cluster import _start_ray
ray = _start_ray(2, sys.argv[1])
print("address", ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def path() -> str:
    return ray_path()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    generator = random.Random(5)
    words = [f"word{n}" for n in range(3000)] + ["Anna", "Smith", "the", "of"] * 200
    rows = [{"text": " ".join(generator.choices(words, k=250))} for _ in range(2400)]
    rows += [{"text": row["text"] + " end"} for row in rows[::7]]
    lines = [orjson.dumps(row) + b"\n" for row in rows]
    (folder / "sources").mkdir()
    for part in range(3):
        (folder / f"sources/{part}.jsonl").write_bytes(b"".join(lines[part::3]))
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, bytes]:
    """Return the files that one process on one machine writes."""
    process = _start(folder, "whole", {}, "local")
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return _bytes(folder, "whole")


@pytest.fixture
def cluster(path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Start a cluster in another working directory, and return the environment that joins it."""
    place = tmp_path_factory.mktemp("c")
    own = {
        "PYTHONPATH": path,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
    }
    process = subprocess.Popen(
        # Not in pytest's folder: the path of a Unix socket has at most 107 characters.
        [sys.executable, "-c", CLUSTER, f"{gettempdir()}/temper-test-ray-{os.getpid()}"],
        env=os.environ | own,
        cwd=place,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdin is not None
    address = next(line.split()[1] for line in process.stdout if line.startswith("address "))
    yield own | {"RAY_ADDRESS": address}
    process.stdin.close()
    assert process.wait(60) == 0


def _start(
    folder: Path, output: str, environment: dict[str, str], target: str = "ray"
) -> subprocess.Popen[str]:
    job = folder / f"{output}.yaml"
    document = {
        "name": "tidy",
        "prepare": {
            "sources": "sources",
            "steps": [
                {"step": "normalise"},
                {"step": "personal_data", "kinds": ["person", "email"]},
                {"step": "duplicates", "action": "drop"},
            ],
            "split": {"validation": 0.1},
            "output": output,
            "unit_mib": 1,
            "workers": 2,
        },
    }
    job.write_text(yaml.safe_dump(document))
    return subprocess.Popen(
        [sys.executable, "-m", "temper", "prepare", job.name, "--target", target],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _bytes(folder: Path, output: str) -> dict[str, bytes]:
    latest = folder / output / "tidy" / "latest"
    files = (path for path in sorted(latest.rglob("*")) if path.is_file())
    return {path.relative_to(latest).as_posix(): path.read_bytes() for path in files}


def _workers() -> list[psutil.Process]:
    """Return the processes that run a task of a preparation of this test."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[:1] == ["ray::_run_rank"]:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def _until_working(process: subprocess.Popen[str]) -> list[psutil.Process]:
    end = time.monotonic() + 300
    while not (workers := _workers()):
        assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
        time.sleep(0.02)
    return workers


def test_a_worker_that_is_killed_is_replaced(
    folder: Path, path: str, whole: dict[str, bytes]
) -> None:
    process = _start(folder, "worker", {"PYTHONPATH": path})
    for worker in _until_working(process):
        worker.kill()
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    assert "its worker died (WorkerCrashedError); beginning it again" in output
    assert _bytes(folder, "worker") == whole


def test_workers_that_die_again_and_again_end_the_preparation_with_a_message(
    folder: Path, path: str, whole: dict[str, bytes]
) -> None:
    for _ in range(3):
        process = _start(folder, "again", {"PYTHONPATH": path})
        while process.poll() is None:
            for worker in _workers():
                worker.kill()
            time.sleep(0.02)
        output, _ = process.communicate()
        assert process.returncode == 4, output
        if "Ray did not start on this machine" not in output:  # Its limit is 30 seconds.
            break
    assert "its worker died (WorkerCrashedError), 4 times" in output
    assert "Traceback" not in output
    assert not (folder / "again/tidy/latest").exists()
    process = _start(folder, "again", {"PYTHONPATH": path})
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    assert _bytes(folder, "again") == whole


@pytest.mark.long
def test_drivers_that_are_killed_at_random_moments_change_no_byte(
    folder: Path, path: str, whole: dict[str, bytes]
) -> None:
    generator = random.Random(11)
    for _ in range(KILLS):
        process = _start(folder, "driver", {"PYTHONPATH": path})
        _until_working(process)
        time.sleep(generator.uniform(0, 5))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    process = _start(folder, "driver", {"PYTHONPATH": path})
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    assert _bytes(folder, "driver") == whole


def test_a_cluster_that_runs_already_is_joined_and_left_running(
    folder: Path, cluster: dict[str, str], whole: dict[str, bytes]
) -> None:
    process = _start(folder, "joined", cluster)
    _until_working(process)
    os.kill(process.pid, signal.SIGKILL)  # The workers are the cluster's, and must end with it.
    process.communicate()
    process = _start(folder, "joined", cluster)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    assert _bytes(folder, "joined") == whole
    host, _, port = cluster["RAY_ADDRESS"].rpartition(":")
    socket.create_connection((host, int(port)), 5).close()
