"""A preparation that is killed at random moments, again and again, ends with the same bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest
import yaml

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("TEMPER_PREPARATION_KILLS", "10"))


def _job(folder: Path, data: Path, output: str) -> Path:
    job = folder / f"{output}.yaml"
    document = {
        "name": "tidy",
        "prepare": {
            "sources": str(data),
            "steps": [{"step": "normalise"}, {"step": "duplicates", "action": "drop"}],
            "split": {"validation": 0.1},
            "output": str(folder / output),
            "unit_mib": 1,
            "workers": 2,
        },
    }
    job.write_text(yaml.safe_dump(document))
    return job


def _start(job: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "temper", "prepare", str(job)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def _finished(folder: Path, output: str) -> list[Path]:
    return list((folder / output / "tidy").glob("[!.l]*"))


def _bytes(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_kills_at_random_moments_change_no_byte(tmp_path: Path) -> None:
    generator = random.Random(7)
    data = tmp_path / "a.jsonl"
    words = [f"word{n}" for n in range(3000)]
    rows = [{"text": " ".join(generator.choices(words, k=250))} for _ in range(3000)]
    rows += [{"text": row["text"] + " end"} for row in rows[::7]]
    data.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))

    begun = time.monotonic()
    whole = _start(_job(tmp_path, data, "whole"))
    _, errors = whole.communicate()
    assert whole.returncode == 0, errors.decode()
    duration_s = time.monotonic() - begun

    killed, job = 0, _job(tmp_path, data, "killed")
    while killed < KILLS:
        process = _start(job)
        try:
            process.communicate(timeout=generator.uniform(0.1, 1.2) * duration_s)
        except subprocess.TimeoutExpired:
            # The process alone is killed: its workers must end with it.
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
            continue
        assert process.returncode == 0
        (found,) = _finished(tmp_path, "killed")
        assert _bytes(found) == _bytes(*_finished(tmp_path, "whole"))
        found.rename(tmp_path / f"finished-{killed}-{generator.random()}")
    assert _start(job).wait() == 0
    (found,) = _finished(tmp_path, "killed")
    assert _bytes(found) == _bytes(*_finished(tmp_path, "whole"))
