"""Evaluation before, during and after training: held-out rows, sample answers, general text.

The results from before training are stored in the run folder, so that a resumed run reports the
same "before" as an uninterrupted one.
"""

from __future__ import annotations

import json
from typing import Any

from transformers import PreTrainedTokenizerBase

from training.config import Job
from training.config.static_shapes import static_shapes
from training.console import say
from training.data.collators.sequences import SequenceCollator
from training.data.prepare import Prepared, load_texts
from training.evaluation.generation_metrics.base import mean_scores
from training.evaluation.generations import generate_answers
from training.evaluation.held_out import HeldOutEvaluator
from training.evaluation.member_weights import MemberWeightsMetric, weighs_by_input
from training.run_folder import RunFolder
from training.trainer.callbacks import BaseCallback
from training.trainer.context import CollateFunction
from training.trainer.distributed import ControlPlane
from training.trainer.metrics import NextTokenMetric

SAMPLE_ANSWERS = "looks.jsonl"
"""File of the sample answers at each evaluation; `training.tracking.metrics_writer` drops those
after the checkpoint that a run resumes from, because the resumed run repeats them."""


class Evaluator(BaseCallback):
    """Callback that evaluates a model before and after training, and on request in between.

    Args:
        job: The job.
        tokenizer: The model's tokenizer.
        data: Prepared data, with the held-out rows.
        control: Exchanges results between processes.
        collate: Collates held-out rows as training rows are.
        batch_size: Rows per process and batch.
        folder: The run folder; its cache stores the tokens of general text between runs.
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
        self.held_out = None
        if data.validation is not None:
            self.held_out = HeldOutEvaluator(
                data.validation, collate, batch_size, control, job.precision
            )
        self.general_text = None
        if job.evaluate.forgetting is not None:
            table = load_texts(
                job.evaluate.forgetting,
                tokenizer,
                max_length=job.data.max_length,
                cache_dir=folder.cache,
            )
            shapes = static_shapes(job, control.world.device.type)
            general = SequenceCollator(tokenizer.pad_token_id, shapes=shapes)
            self.general_text = HeldOutEvaluator(table, general, batch_size, control, job.precision)

    def on_start(self, model: Any, step: int) -> None:
        """Evaluate the untrained model, unless the run resumes."""
        done = self.control.broadcast(self.path.exists())
        if not done and step == 0:
            self._write("before", self._evaluate_all())

    def evaluate_after(self) -> dict[str, Any]:
        """Evaluate the trained model, and return the results."""
        results = self._evaluate_all()
        if self.trainer.keeps_best and self.trainer.best_step >= 0:
            results["kept"] = {
                "step": self.trainer.best_step,
                "last_step": int(self.trainer.state.global_step),
            }
        if weights := self._member_weights():
            results["members"] = weights
        self._write("after", results)
        return results

    def evaluate_rounded(self, dtype: str) -> None:
        """Measure the held-out loss of the weights as they are saved, after `evaluate_after`.

        Args:
            dtype: Precision to which they were rounded, as jobs write it.
        """
        saved: dict[str, Any] = {"dtype": dtype}
        change = "there are no held-out rows to measure what that changes"
        if self.held_out is not None:
            metrics = self.held_out.evaluate(self.trainer.model_wrapped, self.trainer)
            saved["validation"] = metrics
        if not self.control.world.is_main_process:
            return
        after = json.loads(self.path.read_text())["after"]
        if "validation" in saved:
            losses = (after["validation"]["loss"], saved["validation"]["loss"])
            change = f"held-out loss {losses[0]:.4f} → {losses[1]:.4f}"
        say(f"weights rounded to {dtype}: {change}")
        self._write("after", {**after, "saved": saved})

    def _member_weights(self) -> dict[str, float]:
        """Return the mean weight of each choice of a composition on held-out sequences."""
        model = self.trainer.trained_model
        sequences = self.held_out and isinstance(self.held_out.collate, SequenceCollator)
        if self.held_out is None or not sequences or not weighs_by_input(model):
            return {}
        metric = MemberWeightsMetric(model)
        with metric.recording():
            weights = self.held_out.evaluate(model, metric)
        listed = ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())
        if listed and self.control.world.is_main_process:
            say(f"mean weights on the held-out rows: {listed}")
        return weights

    def evaluate_held_out(self, model: Any, step: int) -> dict[str, float]:
        """Return the metrics of the held-out rows, and of the sample answers during training."""
        assert self.held_out is not None
        metrics = self.held_out.evaluate(self.trainer.model_wrapped, self.trainer)
        self._latest = (step, metrics)
        if not (self.job.evaluate.samples and step):
            return metrics
        samples = self._answer_samples()
        self._append_samples(step, samples)
        return {**metrics, **self._generation_scores(samples)}

    def _append_samples(self, step: int, samples: list[dict[str, str]]) -> None:
        if self.control.world.is_main_process:
            with self.path.with_name(SAMPLE_ANSWERS).open("a", encoding="utf-8") as file:
                for sample in samples:
                    file.write(json.dumps({"step": step, **sample}, ensure_ascii=False) + "\n")

    def _evaluate_all(self) -> dict[str, Any]:
        model = self.trainer.model_wrapped
        results: dict[str, Any] = {}
        if self.held_out is not None:
            # The last evaluation during training may have been at this very step.
            step = int(self.trainer.state.global_step)
            restored = self.trainer.restored_step is not None
            current = self._latest is not None and self._latest[0] == step and not restored
            latest = self._latest if current else None
            results["validation"] = (
                latest[1] if latest else self.held_out.evaluate(model, self.trainer)
            )
        if self.general_text is not None:
            results["forgetting"] = self.general_text.evaluate(
                self.trainer.trained_model, NextTokenMetric()
            )
        if self.job.evaluate.samples:
            results["samples"] = self._answer_samples()
            if scores := self._generation_scores(results["samples"]):
                results["generation"] = scores
        return results

    def _answer_samples(self) -> list[dict[str, str]]:
        """Return every sample's prompt, answer and, if it has one, reference answer."""
        samples = self.job.evaluate.samples
        ids = [self._row_tokenizer.prompt_ids(sample.prompt) for sample in samples]
        sharding = self.job.sharding
        answers = generate_answers(
            self.trainer.trained_model,
            self.tokenizer,
            ids,
            max_new_tokens=self.job.evaluate.max_new_tokens,
            end_ids=self._row_tokenizer.end_ids,
            synced=sharding.zero == 3 or sharding.fsdp != "none",
        )
        return [
            {
                "prompt": sample.prompt,
                "answer": answer,
                **({} if sample.reference is None else {"reference": sample.reference}),
            }
            for sample, answer in zip(samples, answers, strict=True)
        ]

    def _generation_scores(self, samples: list[dict[str, str]]) -> dict[str, float]:
        answers = [sample["answer"] for sample in samples]
        references = [sample.get("reference") for sample in samples]
        return mean_scores(self.job.evaluate.generation_metrics, answers, references)

    def _write(self, when: str, results: dict[str, Any]) -> None:
        if not self.control.world.is_main_process:
            return
        document = json.loads(self.path.read_text()) if self.path.exists() else {}
        document[when] = results
        # Renamed when complete: a killed run leaves either the old file or the new one.
        temporary = self.path.with_suffix(".writing")
        temporary.write_text(json.dumps(document, indent=1, ensure_ascii=False))
        temporary.replace(self.path)
