"""What a cluster runs where training itself is not what is tested: `counting.py -m … train`.

The first node counts steps, keeps every fifth, goes on from the last one kept, and saves once more
when told to end. The others wait for it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import yaml

FOLDER = Path(os.environ["TEMPER_RUN_FOLDER"])
KEPT = FOLDER / "checkpoints/step"
told: list[int] = []


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda received, frame: told.append(received))
    return count() if os.environ["SLURM_NODEID"] == "0" else keep_company()


def count() -> int:
    steps = yaml.safe_load(Path(os.environ["TEMPER_JOB"]).read_text())["train"]["max_steps"]
    KEPT.parent.mkdir(exist_ok=True)
    (FOLDER / "over").unlink(missing_ok=True)
    say("running")
    for step in range((int(KEPT.read_text()) if KEPT.exists() else 0) + 1, steps + 1):
        time.sleep(0.05)
        print(f"step {step}/{steps} | loss {4 / step:.4f}", flush=True)
        with (FOLDER / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "loss": 4 / step}) + "\n")
        if step % 5 == 0 or told:
            KEPT.write_text(str(step))
        if told:
            return end("stopped", 75)
    (FOLDER / "model").mkdir()
    (FOLDER / "model/counted.json").write_text(json.dumps({"steps": steps}))
    return end("finished", 0)


def end(state: str, code: int) -> int:
    say(state)
    (FOLDER / "over").touch()
    return code


def say(state: str) -> None:
    (FOLDER / "status.json").write_text(json.dumps({"state": state}))


def keep_company() -> int:
    while not (FOLDER / "over").exists():
        time.sleep(0.05)
    return 75 if told else 0


if __name__ == "__main__":
    sys.exit(main())
