"""What the stand-in runs where training itself is not what is tested.

Counts steps, prints the progress line, keeps a checkpoint of every fifth step, goes on from the
last one, saves once more when told to stop, and puts out what it counted as its model.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import yaml

ML = Path("/opt/ml")
FOLDER = ML / "checkpoints"
told: list[int] = []


def main() -> int:
    job = yaml.safe_load(Path(os.environ["TEMPER_JOB"]).read_text())
    steps = job["train"]["max_steps"]
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    kept = sorted(int(p.stem) for p in (FOLDER / "checkpoints").glob("*.json"))
    (FOLDER / "checkpoints").mkdir(exist_ok=True)
    for step in range((kept or [0])[-1] + 1, steps + 1):
        time.sleep(0.02)
        print(
            f"step {step:>6}/{steps} | loss {4 / step:.4f} | lr 1.00e-03 | grad_norm 1.000 "
            f"| tok/s 100 | mem 0.10GiB | eta 1s"
        )
        if step % 5 == 0 or told:
            save(step, "running")
        if told:
            return 75
        if job["name"] == "broken" and step == 3:
            (ML / "output/failure").write_text("guard: loss is nan at step 3")
            return 4
    save(steps, "finished")
    (ML / "model/counted.json").write_text(json.dumps({"steps": steps}))
    (FOLDER / "report.html").write_text("<html>report</html>")
    return 0


def save(step: int, state: str) -> None:
    building = FOLDER / "checkpoints" / f".{step}.writing"
    building.write_text(json.dumps({"step": step}))
    building.rename(FOLDER / "checkpoints" / f"{step}.json")
    (FOLDER / "status.json").write_text(json.dumps({"state": state}))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.exit(code)
