"""Two tasks and an adapter for each: what tests of compositions share."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

import training.adapters.composition.tuner  # noqa: F401  (PEFT then knows these types)
from tests.factories import make_tiny_model, write_jsonl
from tests.parity.test_adapters import held_out
from tests.run_commands import Run, changed, train_here

TASKS = {"assent": ("yes of course", "yes indeed"), "refuse": ("no never", "no not that")}
ADAPTERS = {
    "lora": {"kind": "lora", "r": 8, "alpha": 16},
    "bottleneck": {"kind": "bottleneck", "size": 16},
}


def rows(task: str, number: int, seed: int) -> list[dict[str, str]]:
    """Return questions that are answered as the task says."""
    chance = random.Random(f"{task} {seed}")
    found = []
    for _ in range(number):
        word = "".join(chance.choice("abcdefgh") for _ in range(4))
        answer = chance.choice(TASKS[task])
        found.append({"prompt": f"{task} {word}?", "completion": answer})
    return found


@dataclass(frozen=True)
class Shop:
    """A base, a job on both tasks, and an adapter for each task.

    Attributes:
        home: Where all of it lies.
        job: Trains on both tasks, and holds rows of both out.
        members: Folders of the adapters, by task.
        alone: Loss on held-out rows of both tasks, with each adapter by itself.
    """

    home: Path
    job: dict[str, Any]
    members: dict[str, str]
    alone: dict[str, float]

    def composed(self, how: dict[str, Any], **sections: Any) -> dict[str, Any]:
        """Return the job that composes the adapters."""
        return changed(
            {**self.job, "compose": {"adapters": self.members, "method": how}}, **sections
        )

    def base(self) -> Any:
        """Return the base."""
        return AutoModelForCausalLM.from_pretrained(self.job["model"]["source"])

    def loaded(self, folder: Path | str) -> PeftModel:
        """Return the base with an adapter that PEFT loads."""
        return PeftModel.from_pretrained(self.base(), str(folder)).eval()

    def loss(self, model: Any, place: Path) -> float:
        """Return the loss on held-out rows of both tasks."""
        return held_out(model, self.job, self.tokenizer(), place)[1]

    def tokenizer(self) -> Any:
        """Return the base's."""
        return AutoTokenizer.from_pretrained(self.job["model"]["source"])


def losses(run: Run) -> tuple[float, float]:
    """Return the held-out loss before and after."""
    measured = json.loads((run.path / "evaluation.json").read_text())
    before, after = (measured[when]["validation"]["loss"] for when in ("before", "after"))
    return before, after


def open_shop(home: Path, kind: str) -> Shop:
    """Train an adapter for each task."""
    home.mkdir(exist_ok=True)
    model = make_tiny_model(home / "base")
    mixed = write_jsonl(home / "mix.jsonl", [r for t in TASKS for r in rows(t, 96, 1)])
    held = write_jsonl(home / "held.jsonl", [r for t in TASKS for r in rows(t, 48, 2)])
    job: dict[str, Any] = {
        "name": "tiny",
        "model": {"source": str(model)},
        "data": {
            "train": str(mixed), "max_length": 48, "workers": 1,
            "validation": {"source": str(held)},
        },
        "method": {"kind": "sft"},
        "train": {
            "max_steps": 20, "global_batch_size": 16, "micro_batch_size": 16,
            "learning_rate": 1e-2,
        },
        "tracking": {"mlflow": False},
    }  # fmt: skip
    members = {}
    for task in TASKS:
        own = write_jsonl(home / f"{task}.jsonl", rows(task, 192, 1))
        document = changed(
            job,
            data={"train": str(own)},
            train={"max_steps": 40, "learning_rate": 2e-2},
            adapter=ADAPTERS[kind],
        )
        members[task] = str(train_here(document, home / task).path / "model")
    shop = Shop(home, job, members, {})
    alone = {t: shop.loss(shop.loaded(f), home / f"look-{t}") for t, f in members.items()}
    return Shop(home, job, members, alone)
