"""Replacement of the entry point for cluster tests that do not train.

The first node counts steps, saves every fifth, resumes from the last one saved, and saves once more
on a signal. The other nodes wait for it.
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
signals: list[int] = []


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda received, frame: signals.append(received))
    return count() if os.environ["SLURM_NODEID"] == "0" else wait_for_first_node()


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
        if step % 5 == 0 or signals:
            KEPT.write_text(str(step))
        if signals:
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


def wait_for_first_node() -> int:
    while not (FOLDER / "over").exists():
        time.sleep(0.05)
    return 75 if signals else 0


if __name__ == "__main__":
    sys.exit(main())
