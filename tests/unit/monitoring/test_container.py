"""The scheduled job: `python -m monitoring` with the packages of the image `serve` alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from monitoring.__main__ import options_from_environment
from monitoring.errors import WatchError
from tests.run_commands import ROOT
from tests.unit.monitoring.watched_run import NAME, Watched

_ABSENT = (
    *("trl", "datasets", "pyarrow", "mlflow", "sqlalchemy", "matplotlib", "jsonschema"),
    *("sacrebleu", "nltk", "boto3", "botocore", "datatrove", "faker", "betterleaks"),
    *("temper", "registry", "launch", "client", "advice", "search", "emulator"),
)
"""Packages that containers/lock.sh leaves out, and those of this project that are not copied."""
_BLOCK = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {_ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
import importlib.util
whole = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: (
    None if name.partition(".")[0] in {_ABSENT!r} else whole(name, *rest))
sys.meta_path.insert(0, Absent())
"""
ENVIRONMENT = {
    "TEMPER_WATCH_NAME": "assistant",
    "TEMPER_WATCH_MODEL": "support@1.2.0",
    "TEMPER_WATCH_WINDOW": "24h",
    "TEMPER_WATCH_ALARM": "2/3",
    "TEMPER_WATCH_NAMESPACE": "temper-dev",
}


def test_all_missing_variables_are_one_message() -> None:
    with pytest.raises(WatchError, match=r"TEMPER_WATCH_NAME.*TEMPER_WATCH_NAMESPACE"):
        options_from_environment({})


@pytest.mark.slow
def test_runs_with_the_packages_of_its_image(
    watched: Watched, found: tuple[Path, int], tmp_path: Path
) -> None:
    inputs = tmp_path / "input"
    shutil.copytree(watched.shifted.parent, inputs / "capture/2026/11/02/08")
    shutil.copytree(watched.folder / "tiny", inputs / "model")
    (inputs / "reference").mkdir()
    shutil.copy(found[0] / "reference.npz", inputs / "reference")
    code = (
        f"{_BLOCK}\nfrom pathlib import Path\nimport monitoring.__main__ as job\n"
        f"from monitoring.command import run_watch\n"
        f"import os\n"
        f"sys.exit(run_watch(job.options_from_environment(os.environ, Path({str(tmp_path)!r}))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "output/report.json").read_text())
    assert (report["deployment"], report["model"]) == ("assistant", "support@1.2.0")
    assert report["alarms"] == ["drift"] and report["notes"] == []
    cases = (tmp_path / "output/cases.jsonl").read_text().splitlines()
    assert report["cases"] == len(cases) > 0
    assert NAME not in "".join(cases) and "[PERSON_1]" in "".join(cases)
    last = report["windows"][-1]["languages"]
    assert sum(last.values()) == pytest.approx(1) and last["de"] > 0.5
    assert report["training_languages"]["en"] > 0.5
    window = json.loads(next(x for x in done.stdout.splitlines() if x.startswith("{")))
    assert (window["Deployment"], window["Drifted"], window["DriftAlarm"]) == ("assistant", 1, 1)
