"""The code that is copied to a cluster trains, and plans what it trains, without the launcher."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from launch.code_bundle import code_files
from tests.factories import write_jsonl

SCRIPT = """
import sys
from pathlib import Path
from training.__main__ import plan_run
from training.config import load_job
from training.report.plan_vs_actual import prediction_line, write_predicted
predicted = write_predicted(Path.cwd(), lambda: plan_run(load_job(Path("job.yaml"))))
print(prediction_line(predicted))
sys.exit(any(name.partition(".")[0] in ("launch", "temper") for name in sys.modules))
"""


def test_bundle_plans_its_job(tmp_path: Path) -> None:
    bundle, work = tmp_path / "code", tmp_path / "work"
    for path, name in code_files():
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, bundle / name)
    (work / "shape").mkdir(parents=True)
    shape = {"hidden_size": 32, "intermediate_size": 88, "num_hidden_layers": 2}
    (work / "shape/config.json").write_text(
        json.dumps({**shape, "num_attention_heads": 4, "vocab_size": 320})
    )
    write_jsonl(work / "rows.jsonl", [{"text": "a"}])
    job = {
        "name": "bundled",
        "model": {"source": "./shape"},
        "data": {"train": "rows.jsonl"},
        "method": {"kind": "sft"},
        "train": {"max_steps": 2},
    }
    (work / "job.yaml").write_text(yaml.safe_dump(job))
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT],
        cwd=work,
        env={"PYTHONPATH": str(bundle), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("plan: ") and " GiB, " in done.stdout
    assert "predicted" in json.loads((work / "plan.json").read_text())
