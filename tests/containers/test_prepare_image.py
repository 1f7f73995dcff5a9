"""The image `prepare`, built by the make target, gives the bytes of a run on this machine.

`make image-test`. Two containers are the hosts of a processing job; the emulated S3 is on this
machine, which they share the network with.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from tests.containers.engine import Engine
from tests.containers.images import image_test
from tests.containers.processing_layout import lay_out_processing
from tests.run_commands import ROOT

pytestmark = image_test

IMAGE = "localhost/temper-prepare:test"
HOSTS = ("algo-1", "algo-2")
ROWS = [
    {"text": f"Please write to maria.lopez{n % 7}@example.org about pump {n % 50}. " * 12, "id": n}
    for n in range(400)
]
STEPS: list[dict[str, Any]] = [
    {"step": "normalise"},
    {"step": "language", "keep": ["en"]},
    {"step": "secrets"},
    {"step": "personal_data", "action": "replace"},
    {"step": "quality", "rules": ["gopher"]},
    {"step": "duplicates", "action": "drop"},
]


@pytest.fixture(scope="module")
def image(engine: Engine) -> str:
    engine.build("prepare", IMAGE)
    return IMAGE


@pytest.fixture(scope="module")
def tickets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources") / "tickets"
    folder.mkdir()
    for part in range(2):
        lines = (json.dumps(row) + "\n" for row in ROWS[part::2])
        (folder / f"{part}.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture
def s3() -> Iterator[tuple[Any, str]]:
    """Return a client of an emulated S3 with the bucket `data`, and its endpoint."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    client.create_bucket(Bucket="data")
    yield client, endpoint
    server.stop()


def job(source: str, output: str) -> str:
    prepare = {
        "sources": source,
        "steps": STEPS,
        "split": {"validation": 0.2},
        "output": output,
        "workers": 1,
    }
    return yaml.safe_dump({"name": "tidy", "prepare": prepare})


def prepared_here(tickets: Path, folder: Path) -> dict[str, bytes]:
    """Return the files that the same job makes on this machine, by their name below `tidy`."""
    path = folder / "job.yaml"
    path.write_text(job(str(tickets), str(folder / "prepared")))
    done = subprocess.run(
        [sys.executable, "-m", "temper", "prepare", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = folder / "prepared/tidy"
    [digest] = [path.name for path in made.iterdir() if not path.is_symlink()]
    return {
        f"{digest}/{path.relative_to(made / digest).as_posix()}": path.read_bytes()
        for path in (made / digest).rglob("*")
        if path.is_file()
    } | {"latest": digest.encode()}


def start(engine: Engine, image: str, root: Path, endpoint: str) -> subprocess.Popen[str]:
    """Start the container of one host, as a processing job does."""
    variables = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "OMP_NUM_THREADS": "1",
    }
    options = ("--network", "host", "--volume", f"{root}:/opt/ml")
    environment = (part for k, v in variables.items() for part in ("--env", f"{k}={v}"))
    return subprocess.Popen(
        [engine.name, "run", "--rm", *options, *environment, image],
        env={**os.environ, **engine.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_hosts_write_to_s3_what_one_machine_writes_to_its_disk(
    engine: Engine, image: str, tickets: Path, s3: tuple[Any, str], tmp_path: Path
) -> None:
    client, endpoint = s3
    roots = []
    for index, host in enumerate(HOSTS):
        root = lay_out_processing(tmp_path / host, hosts=HOSTS, current=index)
        place = "/opt/ml/processing/input/source-0/tickets"
        shutil.copytree(tickets, root / "processing/input/source-0/tickets")
        (root / "processing/input/job/prepare.yaml").write_text(job(place, "s3://data/prepared"))
        roots.append(root)
    nodes = [start(engine, image, root, endpoint) for root in roots]
    logs = [node.communicate(timeout=600)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(logs)
    stored = {
        item["Key"].removeprefix("prepared/tidy/"): client.get_object(
            Bucket="data", Key=item["Key"]
        )["Body"].read()
        for item in client.list_objects_v2(Bucket="data")["Contents"]
        if not item["Key"].endswith("/")  # empty objects that pyarrow makes for folders
    }
    # The job as resolved names the place of the source, which is another one here.
    recipe = f"{stored['latest'].decode()}/recipe.yaml"
    stored[recipe] = stored[recipe].replace(place.encode(), str(tickets).encode())
    assert stored == prepared_here(tickets, tmp_path)
    folder = f"s3://data/prepared/tidy/{stored['latest'].decode()}"
    message = (roots[0] / "output/message").read_text()
    assert message.endswith(folder)
    assert "400 rows read" in message
    assert not (roots[1] / "output/message").exists(), "one node speaks for all"


def test_a_container_elsewhere_prepares_files_of_its_machine(
    engine: Engine, image: str, tmp_path: Path
) -> None:
    """A source without a row that can be read is named, and nothing is left that looks finished."""
    (tmp_path / "rows.jsonl").write_text('{"text": "on')
    (tmp_path / "job.yaml").write_text("name: tidy\nprepare: {sources: rows.jsonl}\n")
    done = engine.run(
        *("run", "--rm", "--volume", f"{tmp_path}:/data", "--workdir", "/data"),
        *(image, "prepare", "job.yaml", "--set", "prepare.workers=1"),
    )
    assert done.returncode == 3, done.stderr
    assert "rows.jsonl" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "prepared").glob("tidy/[!.]*"))
