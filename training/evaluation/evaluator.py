"""Before and after: held-out loss, answers to samples, loss on general text.

What was measured before training is kept in the run folder, so that a resumed run reports the
same "before" as an uninterrupted one.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from transformers import PreTrainedTokenizerBase

from training.config import Job
from training.data.collators.sequences import SequenceCollator
from training.data.prepare import Prepared, load_texts
from training.evaluation.generations import answer
from training.evaluation.held_out import HeldOutEvaluator
from training.run_folder import RunFolder
from training.trainer.callbacks import BaseCallback
from training.trainer.context import CollateFunction
from training.trainer.distributed import ControlPlane
from training.trainer.metrics import NextTokenMetric

logger = logging.getLogger(__name__)

LOOKS = "looks.jsonl"
"""Answers to the samples on the way; `report.record` drops those that a resume gives again."""


class Evaluator(BaseCallback):
    """Measures a model before and after training, and its held-out rows in between.

    Args:
        job: The run.
        tokenizer: Reads prompts and writes answers.
        data: Holds the held-out rows.
        control: Adds the sums of all processes.
        collate: Makes batches of held-out rows, as of those trained on.
        batch_size: Rows per process at once.
        folder: The run folder; its cache keeps the tokens of general text between runs.
    """

    def __init__(
        self,
        job: Job,
        tokenizer: PreTrainedTokenizerBase,
        data: Prepared,
        control: ControlPlane,
        collate: CollateFunction,
        batch_size: int,
        folder: RunFolder,
    ):
        self.job = job
        self.tokenizer = tokenizer
        self._row_tokenizer = data.row_tokenizer
        self.control = control
        self.path = folder.path / "evaluation.json"
        self.trainer: Any = None
        self._latest: tuple[int, dict[str, float]] | None = None
        assert tokenizer.pad_token_id is not None
        self.rows = None
        if data.validation is not None:
            self.rows = HeldOutEvaluator(
                data.validation, collate, batch_size, control, job.precision
            )
        self.general = None
        if job.evaluate.forgetting is not None:
            table = load_texts(
                job.evaluate.forgetting,
                tokenizer,
                max_length=job.data.max_length,
                cache_dir=folder.cache,
            )
            self.general = HeldOutEvaluator(
                table, SequenceCollator(tokenizer.pad_token_id), batch_size, control, job.precision
            )

    def on_start(self, model: Any, step: int) -> None:
        """Measure the untrained model, unless that was done before a resume."""
        done = self.control.broadcast(self.path.exists())
        if not done and step == 0:
            self._write("before", self._everything())

    def after(self) -> None:
        """Measure the trained model."""
        self._write("after", self._everything())

    def held_out(self, model: Any, step: int) -> dict[str, float]:
        """Return what the held-out rows come to with the model as it is."""
        assert self.rows is not None
        measured = self.rows.measure(self.trainer.model_wrapped, self.trainer)
        self._latest = (step, measured)
        if self.job.evaluate.samples and step:
            self._note_answers(step)
        return measured

    def _note_answers(self, step: int) -> None:
        """Add the answers of the model as it is to those given along the way."""
        found = self._samples()
        if self.control.world.is_main_process:
            with self.path.with_name(LOOKS).open("a", encoding="utf-8") as file:
                for one in found:
                    file.write(json.dumps({"step": step, **one}, ensure_ascii=False) + "\n")

    def _everything(self) -> dict[str, Any]:
        model = self.trainer.model_wrapped
        found: dict[str, Any] = {}
        if self.rows is not None:
            step = int(self.trainer.state.global_step)
            known = self._latest if self._latest and self._latest[0] == step else None
            found["validation"] = known[1] if known else self.rows.measure(model, self.trainer)
        if self.general is not None:
            found["forgetting"] = self.general.measure(
                self.trainer.trained_model, NextTokenMetric()
            )
        if self.job.evaluate.samples:
            found["samples"] = self._samples()
        return found

    def _samples(self) -> list[dict[str, str]]:
        prompts = list(self.job.evaluate.samples)
        ids = [self._row_tokenizer.prompt_ids(prompt) for prompt in prompts]
        sharding = self.job.sharding
        answers = answer(
            self.trainer.trained_model,
            self.tokenizer,
            ids,
            max_new_tokens=self.job.evaluate.max_new_tokens,
            end_ids=self._row_tokenizer.end_ids,
            synced=sharding.zero == 3 or sharding.fsdp != "none",
        )
        return [{"prompt": p, "answer": a} for p, a in zip(prompts, answers, strict=True)]

    def _write(self, when: str, found: dict[str, Any]) -> None:
        if not self.control.world.is_main_process:
            return
        document = json.loads(self.path.read_text()) if self.path.exists() else {}
        document[when] = found
        building = self.path.with_suffix(".writing")
        building.write_text(json.dumps(document, indent=1, ensure_ascii=False))
        building.replace(self.path)
