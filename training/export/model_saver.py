"""Saving at the end of a run: rehearsed at its start, in the precision that the job asks for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from training.config import Job
from training.console import say
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.export.model_card import model_card
from training.export.rehearsal import rehearse_save
from training.export.save import ServingSettings, save_model
from training.export.save_dtype import NAMES, round_weights, target_dtype
from training.export.transformers_4 import FORMAT as TRANSFORMERS_4
from training.export.transformers_4 import legacy_config
from training.run_folder import RunFolder
from training.trainer.distributed import ControlPlane


class ModelSaver:
    """Writer of a run's model. Every process must call its methods.

    Args:
        job: The run.
        tokenizer: Saved with the weights.
        rows: Row tokenizer of the run, whose template and end tokens the model is used with.
        folder: The run folder.
        control: Control plane of the processes.
    """

    def __init__(
        self,
        job: Job,
        tokenizer: PreTrainedTokenizerBase,
        rows: RowTokenizer,
        folder: RunFolder,
        control: ControlPlane,
    ):
        self.job = job
        self.tokenizer = tokenizer
        self.folder = folder
        self.control = control
        self.dtype: torch.dtype | None = None
        self.serving = ServingSettings(
            chat_template=rows.template.serving if rows.template else None,
            end_ids=rows.end_ids if job.method.rows != "text" else (),
        )

    def rehearse(self, model: Any) -> ModelSaver:
        """Save and read back everything but the weights, and check that these fit the disk.

        Returns:
            This writer, which then knows the precision of the saved weights.

        Raises:
            ModelError: The settings or the tokenizer cannot be saved, or the model cannot be
                written in a format of `export_formats`.
            RunError: The folder cannot be written, or the disk is too small.
        """
        self.dtype = self._dtype_for(model)
        if TRANSFORMERS_4 in self.job.export_formats:
            legacy_config(model.config.to_dict())  # raises for a model that has no such form
        rehearse_save(
            model,
            self.tokenizer,
            self.folder.model,
            self.control,
            serving=self.serving,
            dtype=self.dtype,
        )
        return self

    def save(self, trainer: Any, on_rounded: Callable[[str], None]) -> None:
        """Save the trained model, its weights rounded if the job asks for it.

        Args:
            trainer: The trainer, after training.
            on_rounded: Called with the name of the precision once the weights are rounded.

        Raises:
            GuardError: The saved weights differ from those in memory.
            RunError: The folder cannot be written.
        """
        dtype = self.dtype
        if dtype is not None:
            reason = round_weights(trainer.trained_model, dtype, self.control)
            if reason is None:
                on_rounded(NAMES[dtype])
            else:
                # A trained model is worth more than its size; the next run can choose bf16.
                dtype = None
                if self.control.world.is_main_process:
                    say(f"warning: save_dtype has no effect: {reason}. Use save_dtype: bf16")
        save_model(
            trainer,
            self.tokenizer,
            self.folder.model,
            self.control,
            serving=self.serving,
            dtype=dtype,
            card=self._card,
        )

    def _dtype_for(self, model: Any) -> torch.dtype | None:
        """Return the dtype that the weights are rounded to; None if they are saved as trained."""
        trained, dtype = next(model.parameters()).dtype, target_dtype(self.job)
        if dtype is None or dtype == trained:
            return None
        if self.job.save_dtype == "auto" and dtype.itemsize >= trained.itemsize:
            return None
        if dtype in NAMES:
            return dtype
        if self.control.world.is_main_process:
            say(f"warning: save_dtype: auto has no effect: the base's config.json says {dtype}")
        return None

    def _card(self) -> str:
        """Return the model card, from files that only the node that keeps the folder has."""
        manifest, evaluation = (
            json.loads((self.folder.path / name).read_text())
            for name in ("manifest.json", "evaluation.json")
        )
        return model_card(self.job, manifest, evaluation)
