"""Plans of the contract jobs: three fit, one is refused with alternatives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from temper.cli import main
from tests.run_commands import ROOT

JOBS = ROOT / "../shared/contract/jobs"
pytestmark = pytest.mark.skipif(not JOBS.is_dir(), reason="../shared/contract is not here")


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("job", ["20-p4d-8b-lora", "22-trn2-8b-full", "23-g5-8b-qlora"])
def test_fits(job: str, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    assert main(["plan", str(JOBS / f"{job}.yaml"), "--out", str(out)]) == 0
    plan = json.loads(out.read_text())
    memory = plan["memory_gib"]
    parts = sum(gib for name, gib in memory.items() if name not in ("total", "device"))
    assert plan["fits"] and not plan["refused"]
    assert parts == pytest.approx(memory["total"], abs=0.01)
    assert memory["total"] <= memory["device"]


def test_refusals_name_what_would_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "plan.json"
    assert main(["plan", str(JOBS / "21-p4d-70b-full.yaml"), "--out", str(out)]) == 2
    plan = json.loads(out.read_text())
    assert not plan["fits"]
    assert "ml." in plan["refused"][0]
    assert plan["refused"][0] in capsys.readouterr().err
