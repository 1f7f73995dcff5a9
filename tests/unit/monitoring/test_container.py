"""The scheduled job: `python -m monitoring` with the packages of the image `serve` alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from monitoring.__main__ import options_from_environment, restore_cache
from monitoring.command import run_watch
from monitoring.errors import WatchError
from monitoring.judged_sample import save_baseline
from monitoring.statistics.control_chart import Baseline
from tests.fake_llm_server import FakeLlmServer, serving
from tests.run_commands import ROOT
from tests.unit.monitoring.watched_run import NAME, Watched

_ABSENT = (
    *("trl", "datasets", "pyarrow", "mlflow", "sqlalchemy", "matplotlib", "jsonschema"),
    *("sacrebleu", "nltk", "boto3", "datatrove", "faker", "betterleaks"),
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

MODEL = "amazon.nova-lite-v1:0"
JUDGED = {
    "TEMPER_WATCH_JUDGE": MODEL,
    "TEMPER_WATCH_JUDGED": "16",
    "TEMPER_WATCH_MAX_COST": "0.5",
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


@pytest.fixture
def job(
    watched: Watched, found: tuple[Path, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[FakeLlmServer, Callable[..., tuple[dict[str, Any], Path]]]]:
    """Yield a server of a judge, and a function that runs a job which judges a sample."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    with serving() as server:
        rating = {
            "kind": "bedrock", "model": MODEL, "region": "us-east-1", "url": server.url,
            "price": {"input": 1.0, "output": 5.0},
        }  # fmt: skip
        server.reply = lambda messages: (
            200,
            "[[7]]" if "What is" in messages[-1]["content"] else "[[1]]",
        )

        def run(name: str, cache: Path | None = None, **changes: str) -> tuple[Any, Path]:
            root = tmp_path / name
            reference = root / "input/reference"
            shutil.copytree(watched.shifted.parent, root / "input/capture")
            shutil.copytree(watched.folder / "tiny", root / "input/model")
            reference.mkdir()
            shutil.copy(found[0] / "reference.npz", reference)
            judge = {"rubric": "It is right.", "judge": rating}
            (reference / "judge.yaml").write_text(json.dumps(judge))
            save_baseline(reference / "baseline.json", Baseline("s.t.m", 7.0, 6.7, 7.3, 200))
            if cache is not None:
                shutil.copytree(cache, reference / "judge-cache")
            environment = {**ENVIRONMENT, **JUDGED, **changes}
            options = options_from_environment(environment, root)
            restore_cache(root)
            assert run_watch(options) == 0
            return json.loads((root / "output/report.json").read_text()), root

        yield server, run


@pytest.mark.slow
def test_a_sample_is_judged_once_within_its_limit(
    job: tuple[FakeLlmServer, Callable[..., tuple[dict[str, Any], Path]]],
) -> None:
    server, run = job
    report, root = run("first")
    assert report["alarms"] == ["drift", "quality"]
    assert [w["rating"]["mean"] for w in report["windows"]][::2] == [7.0, 1.0]
    asked = len(server.calls)
    assert 16 < asked <= 3 * 16, "equal calls are asked once"
    again, _ = run("second", root / "judge-cache")
    assert len(server.calls) == asked, "every reply is known"
    assert again["windows"][2]["rating"] == report["windows"][2]["rating"]
    limited, _ = run("third", TEMPER_WATCH_MAX_COST="0.0000001")
    assert limited["alarms"] == ["drift"] and limited["windows"][2]["rating"] is None
    assert any(note.startswith("no sample was judged: ") for note in limited["notes"])
    assert len(server.calls) < asked + 16


@pytest.mark.slow
def test_a_judge_that_the_role_may_not_call_is_refused(
    job: tuple[FakeLlmServer, Callable[..., tuple[dict[str, Any], Path]]], tmp_path: Path
) -> None:
    _, run = job
    with pytest.raises(WatchError, match=r"must be \{kind: bedrock, model: another\}"):
        run("first", TEMPER_WATCH_JUDGE="another")
    with pytest.raises(WatchError, match=r"put judge.yaml and baseline.json next to reference"):
        options_from_environment({**ENVIRONMENT, **JUDGED}, tmp_path / "none")
