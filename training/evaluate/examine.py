"""Before and after: held-out loss, answers to samples, loss on general text.

What was measured before training is kept in the run folder, so that a resumed run reports the
same "before" as an uninterrupted one.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from training.config import Job
from training.data.collate import Collator
from training.data.prepare import Prepared, load_texts
from training.data.samples import sample_prompts
from training.engine.watch import Watching
from training.engine.world import ControlPlane
from training.evaluate.loss import HeldOut
from training.evaluate.samples import answer

logger = logging.getLogger(__name__)


class Examination(Watching):
    """Measures a model before and after training, and its held-out rows in between.

    Args:
        job: The run.
        tokenizer: Reads prompts and writes answers.
        data: Holds the held-out rows.
        collate: Makes batches.
        control: Adds the sums of all processes.
        folder: The run folder.
    """

    def __init__(
        self,
        job: Job,
        tokenizer: PreTrainedTokenizerBase,
        data: Prepared,
        collate: Collator,
        control: ControlPlane,
        folder: Path,
    ):
        self.job = job
        self.tokenizer = tokenizer
        self.control = control
        self.path = folder / "evaluation.json"
        self.trainer: Any = None
        batch = job.train.micro_batch_size or 8
        self.rows = None
        if data.validation is not None:
            self.rows = HeldOut(data.validation, collate, batch, control, job.precision)
        self.general = None
        if job.evaluate.forgetting is not None:
            table = load_texts(job.evaluate.forgetting, tokenizer, max_length=job.data.max_length)
            self.general = HeldOut(table, collate, batch, control, job.precision)

    def on_start(self, model: Any, step: int) -> None:
        """Measure the untrained model, unless that was done before a resume."""
        done = self.control.first_says(self.path.exists())
        if not done and step == 0:
            self._write("before", self._everything())

    def after(self) -> None:
        """Measure the trained model."""
        self._write("after", self._everything())

    def held_out(self, model: Any, step: int) -> dict[str, float]:
        """Return the held-out loss of the model as it is."""
        assert self.rows is not None
        return self.rows.measure(self.trainer.model_wrapped)

    def _everything(self) -> dict[str, Any]:
        model = self.trainer.model_wrapped
        found: dict[str, Any] = {}
        if self.rows is not None:
            found["validation"] = self.rows.measure(model)
        if self.general is not None:
            found["forgetting"] = self.general.measure(model)
        if self.job.evaluate.samples:
            found["samples"] = self._samples()
        return found

    def _samples(self) -> list[dict[str, str]]:
        prompts = list(self.job.evaluate.samples)
        ids = [sample_prompts(self.job, self.tokenizer, prompt) for prompt in prompts]
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        sharding = self.job.sharding
        answers = answer(
            model,
            self.tokenizer,
            ids,
            max_new_tokens=self.job.evaluate.max_new_tokens,
            synced=sharding.zero == 3 or sharding.fsdp != "none",
        )
        return [{"prompt": p, "answer": a} for p, a in zip(prompts, answers, strict=True)]

    def _write(self, when: str, found: dict[str, Any]) -> None:
        if not self.control.world.is_first:
            return
        document = json.loads(self.path.read_text()) if self.path.exists() else {}
        document[when] = found
        building = self.path.with_suffix(".writing")
        building.write_text(json.dumps(document, indent=1, ensure_ascii=False))
        building.replace(self.path)
