"""Rehearsal of the save before the first step, so that no run is trained that cannot be saved."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from training.errors import ModelError, RunError
from training.export.save import ServingSettings, save_settings
from training.trainer.distributed import ControlPlane


def rehearse_save(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    control: ControlPlane,
    *,
    serving: ServingSettings,
    dtype: torch.dtype | None = None,
) -> None:
    """Save and read back everything but the weights, and check that these fit the disk.

    Args:
        model: The model that will be saved.
        tokenizer: Saved with the weights.
        folder: Target folder of the model.
        control: Every process must call this.
        serving: Settings that the model is used with.
        dtype: Dtype in which the weights are saved; None for that of the training.

    Raises:
        ModelError: The settings or the tokenizer cannot be saved.
        RunError: The folder cannot be written, or the disk is too small.
    """
    failure: Exception | None = None
    if control.world.is_main_process:
        temporary = folder.with_name(f".rehearsing-{folder.name}")
        own_template = tokenizer.chat_template
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            _check_space(model, temporary, dtype)
            _save_configuration(model, temporary)
            save_settings(model, tokenizer, temporary, serving)
            _check_tokenizer(tokenizer, temporary)
        except RunError as error:
            failure = error
        except OSError as error:
            failure = RunError(
                f"the trained model could not be written to {folder}: {error.strerror or error}. "
                f"Make the folder writable or free space; nothing was trained yet"
            )
        except Exception as error:
            reason = " ".join(str(error).split()) or repr(error)
            failure = ModelError(
                f"the trained model could not be saved: {reason}. This was found before the first "
                f"step. Correct the files of the base model or the tokenizer"
            )
        finally:
            tokenizer.chat_template = own_template
            shutil.rmtree(temporary, ignore_errors=True)
    failure = control.broadcast(failure)
    if failure is not None:
        raise failure


def _save_configuration(model: Any, folder: Path) -> None:
    if isinstance(model, PeftModel):
        model.active_peft_config.save_pretrained(str(folder))
    else:
        model.config.save_pretrained(folder)


def _check_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Check that the saved tokenizer loads as the one of the training.

    Raises:
        ModelError: It has another vocabulary or another chat template.
    """
    saved = AutoTokenizer.from_pretrained(folder)
    for what, before, after in (
        ("vocabulary", tokenizer.get_vocab(), saved.get_vocab()),
        ("chat template", tokenizer.chat_template, saved.chat_template),
    ):
        if before != after:
            raise ModelError(
                f"the tokenizer has another {what} after it is saved and loaded again "
                f"({type(tokenizer).__name__} and {type(saved).__name__}). Name another tokenizer "
                f"in model.tokenizer"
            )


def _check_space(model: Any, folder: Path, dtype: torch.dtype | None) -> None:
    """Check that the model and the last checkpoint's weights fit the disk.

    Args:
        model: The model that will be saved.
        folder: A folder on the disk.
        dtype: Dtype in which the weights are saved; None for that of the training.

    Raises:
        RunError: They do not.
    """
    sizes = [(parameter.requires_grad, _num_bytes(parameter)) for parameter in model.parameters()]
    trainable = sum(size for trains, size in sizes if trains)
    saved = trainable if isinstance(model, PeftModel) else sum(size for _, size in sizes)
    if dtype is not None:
        saved = sum(_num_bytes(p) // p.element_size() for p in model.parameters()) * dtype.itemsize
    free = shutil.disk_usage(folder).free
    if free < saved + trainable:
        raise RunError(
            f"the disk of {folder.parent} is too small for this run: the model and the weights of "
            f"one checkpoint take {(saved + trainable) / 2**20:,.1f} MiB, and "
            f"{free / 2**20:,.1f} MiB are free. Free space, or name another disk with --runs; "
            f"nothing was trained yet"
        )


def _num_bytes(parameter: Any) -> int:
    """Return the bytes of a parameter, the shards of other processes included."""
    return int(getattr(parameter, "ds_numel", parameter.numel())) * int(parameter.element_size())
