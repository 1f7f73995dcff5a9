"""A preparation on two nodes of a real Slurm: the same bytes as on one machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
import yaml

from tests.launch.slurm_cluster import slurm_cluster, why_not

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
]


def _job(folder: Path, output: str) -> Path:
    document = {
        "name": "tidy",
        "prepare": {
            "sources": str(folder / "sources"),
            "steps": [{"step": "normalise"}, {"step": "duplicates", "action": "drop"}],
            "split": {"validation": 0.2},
            "output": str(folder / output),
            "unit_mib": 1,
            "workers": 1,
        },
    }
    path = folder / f"{output}.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def _bytes(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_two_nodes_give_the_bytes_of_one_machine(tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    for part in range(3):
        rows = [{"text": " ".join(f"w{n % 40}x{k}" for k in range(300))} for n in range(500)]
        path = tmp_path / "sources" / f"{part}.jsonl"
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    command = [sys.executable, "-m", "temper", "prepare"]
    subprocess.run([*command, str(_job(tmp_path, "one"))], check=True)
    with slurm_cluster() as cluster:
        ended = subprocess.run(
            ["srun", "--nodes=2", "--ntasks-per-node=1", "--kill-on-bad-exit=1",
             *command, str(_job(tmp_path, "two"))],
            env=os.environ | cluster.variables, capture_output=True, text=True, timeout=400,
        )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    one = _bytes(tmp_path / "one" / "tidy" / "latest")
    assert any(name.startswith("train/") for name in one)
    assert _bytes(tmp_path / "two" / "tidy" / "latest") == one
