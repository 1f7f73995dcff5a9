"""Tests that the role of processing jobs may do what a preparation asks of S3, and needs all of it.

A preparation runs with an emulated S3 that records its requests; each is evaluated against the
role, the bucket policy and the VPC endpoint of an environment without internet.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.containers.processing_layout import lay_out_processing
from tests.infra.conftest import Assembly
from tests.infra.permissions.cases import Case
from tests.infra.permissions.recorded_s3 import RecordedS3, permissions_of, recorded_s3
from tests.infra.permissions.resolved import ResolvedRoles
from tests.infra.permissions.simulator import simulated, simulation
from tests.run_commands import ROOT


@pytest.fixture
def s3() -> Iterator[RecordedS3]:
    with recorded_s3() as server:
        yield server


def prepare(root: Path, s3: RecordedS3) -> str:
    """Run the entry point as a processing job of one host does; return its exit message."""
    folder = lay_out_processing(root / "ml")
    source = folder / "processing/input/source-0/rows.jsonl"
    source.parent.mkdir()
    lines = (json.dumps({"text": f"Row {n % 30} about pump {n % 30}. " * 9}) for n in range(60))
    source.write_text("\n".join(lines) + "\n")
    section = {
        "sources": str(source),
        "steps": [{"step": "normalise"}, {"step": "duplicates", "action": "drop"}],
        "output": "s3://data/prepared",
        "workers": 1,
    }
    job = folder / "processing/input/job/job.yaml"
    job.write_text(yaml.safe_dump({"name": "tidy", "prepare": section}))
    variables = {
        "SAGEMAKER_BASE_DIR": str(folder),
        "AWS_ENDPOINT_URL": s3.endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-m", "containers.entrypoint", "prepare"],
        cwd=root,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return (folder / "output/message").read_text()


@pytest.mark.slow
def test_the_role_may_do_what_a_preparation_asks_of_s3(
    prod: Assembly, s3: RecordedS3, tmp_path: Path
) -> None:
    message = prepare(tmp_path, s3)
    digest = s3.client.get_object(Bucket="data", Key="prepared/tidy/latest")["Body"].read().decode()
    assert message.splitlines()[-1] == f"s3://data/prepared/tidy/{digest}"
    roles = ResolvedRoles(prod)
    cases: list[Case] = [
        ("Processing", True, action, f"{{data}}/{key}" if key else "{data}", {})
        for action, key in sorted(s3.needed)
    ]
    assert cases[-1][2] == "s3:PutObject"
    verdicts = simulated([simulation(roles, case, inside_vpc=True) for case in cases])
    refused = [
        case[2:4] for case, v in zip(cases, verdicts, strict=True) if v["verdict"] != "Allowed"
    ]
    assert refused == []
    # Each permission of the role is one that a preparation needs; an upload that is given up needs
    # the abort, which a run without a fault does not show.
    assert {case[2] for case in cases} == {
        "s3:DeleteObject",
        "s3:GetObject",
        "s3:ListBucket",
        "s3:PutObject",
    }
    [trained] = simulated([simulation(roles, ("Training", *cases[-1][1:]), inside_vpc=True)])
    assert trained["verdict"] != "Allowed", "the role of training writes nothing there"


def test_requests_and_the_permissions_they_need() -> None:
    assert permissions_of("HEAD", "/data", "") == [("s3:ListBucket", "")]
    assert permissions_of("GET", "/data", "list-type=2&prefix=a") == [("s3:ListBucket", "")]
    assert permissions_of("PUT", "/data/a/b", "partNumber=1&uploadId=x") == [
        ("s3:PutObject", "a/b")
    ]
    assert permissions_of("POST", "/data/a/b", "uploads") == [("s3:PutObject", "a/b")]
    assert permissions_of("DELETE", "/data/a", "uploadId=x") == [("s3:AbortMultipartUpload", "a")]
    body = b"<Delete><Object><Key>a</Key></Object><Object><Key>b</Key></Object></Delete>"
    assert permissions_of("POST", "/data", "delete", body) == [
        ("s3:DeleteObject", "a"),
        ("s3:DeleteObject", "b"),
    ]
    with pytest.raises(AssertionError, match="another bucket"):
        permissions_of("GET", "/elsewhere/a", "")
