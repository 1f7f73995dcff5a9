"""Container command of the emulated service for tests that do not train.

It counts steps, prints the progress line, saves a checkpoint of every fifth step, resumes from the
last one, saves once more on SIGTERM, and writes the count as its model.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import yaml

ML = Path("/opt/ml")
FOLDER = ML / "checkpoints"
signals: list[int] = []


def main() -> int:
    job = yaml.safe_load(Path(os.environ["TEMPER_JOB"]).read_text())
    steps = job["train"]["max_steps"]
    signal.signal(signal.SIGTERM, lambda number, frame: signals.append(number))
    kept = sorted(int(p.stem) for p in (FOLDER / "checkpoints").glob("*.json"))
    (FOLDER / "checkpoints").mkdir(exist_ok=True)
    for step in range((kept or [0])[-1] + 1, steps + 1):
        time.sleep(0.02)
        print(
            f"step {step:>6}/{steps} | loss {4 / step:.4f} | lr 1.00e-03 | grad_norm 1.000 "
            f"| tok/s 100 | mem 0.10GiB | eta 1s"
        )
        if step % 5 == 0 and job["name"] == "tune":
            print(f"step {step:>6}/{steps} | eval_loss {held_out_loss(job, step):.4f}")
        if step % 5 == 0 or signals:
            save(step, "running")
        if signals:
            return 75
        if job["name"] == "broken" and step == 3:
            (ML / "output/failure").write_text("guard: loss is nan at step 3")
            return 4
    save(steps, "finished")
    (ML / "model/counted.json").write_text(json.dumps({"steps": steps}))
    (FOLDER / "report.html").write_text("<html>report</html>")
    if job["name"] == "tune":
        result = {"after": {"validation": {"loss": held_out_loss(job, steps)}}}
        (FOLDER / "evaluation.json").write_text(json.dumps(result))
    if job["name"] == "unsafe":
        for place in (FOLDER / "model", ML / "output/data/safety"):
            place.mkdir(exist_ok=True)
            (place / "counted.json").write_text(json.dumps({"steps": steps}))
        (ML / "output/failure").write_text("the trained model exceeds a limit")
        return 5
    return 0


def held_out_loss(job: dict[str, Any], step: int) -> float:
    """Return a loss that is least at a learning rate of 1e-3."""
    tuned = json.loads((ML / "input/config/hyperparameters.json").read_text())
    rate = float(tuned.get("train.learning_rate", job["train"]["learning_rate"]))
    distance = math.log10(rate) + 3
    return float(1 + distance**2 + 1 / step)


def save(step: int, state: str) -> None:
    building = FOLDER / "checkpoints" / f".{step}.writing"
    building.write_text(json.dumps({"step": step}))
    building.rename(FOLDER / "checkpoints" / f"{step}.json")
    (FOLDER / "status.json").write_text(json.dumps({"state": state}))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.exit(code)
