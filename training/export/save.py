"""Saving of the trained model: write it to a temporary folder, verify it, and rename it.

The folder `model/` loads with `from_pretrained` (an adapter with PEFT's).
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from training.errors import RunError
from training.export.checksums import write_checksums
from training.export.save_dtype import record_dtype, rounded_state
from training.guards.saved_model import check_readback, norms_in_memory
from training.models.base_digest import write_base_digest
from training.models.weight_layout import group_name
from training.trainer.distributed import ControlPlane


class ServingSettings(NamedTuple):
    """Settings that a saved model is used with.

    Attributes:
        chat_template: Chat template of the training; None if there are no conversations.
        end_ids: Token ids that end an answer, so that the saved model stops there.
    """

    chat_template: str | dict[str, str] | None
    end_ids: Sequence[int]


def save_model(
    trainer: Any,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    control: ControlPlane,
    *,
    serving: ServingSettings,
    dtype: torch.dtype | None = None,
    card: Callable[[], str],
) -> None:
    """Save the trained model, gathered from all processes that hold a shard of it.

    Args:
        trainer: The trainer, after training.
        tokenizer: Saved with the weights.
        folder: Target folder; an existing one is replaced.
        control: Every process must call this.
        serving: Settings that the model is used with.
        dtype: Dtype to which the weights were rounded; None if they are saved as trained.
        card: Returns the text of `README.md`; called in the main process only.

    Raises:
        GuardError: The saved weights differ from those in memory.
        RunError: The folder cannot be written.
    """
    model = trainer.trained_model
    adapter = isinstance(model, PeftModel)
    expected = norms_in_memory(model, control, adapter=adapter)
    state = _gather_state(trainer, model)
    failure: Exception | None = None
    if control.world.is_main_process:
        temporary = folder.with_name(f".writing-{folder.name}")
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            which = {"selected_adapters": [model.active_adapter]} if adapter else {}
            if dtype is not None:
                state = rounded_state(model, state, dtype)
            model.save_pretrained(temporary, state_dict=state, safe_serialization=True, **which)
            if dtype is not None:
                record_dtype(temporary, dtype)
            if adapter:
                write_base_digest(temporary, str(model.active_peft_config.base_model_name_or_path))
            save_settings(model, tokenizer, temporary, serving)
            (temporary / "README.md").write_text(card(), encoding="utf-8")
            group = str if adapter else group_name(model)
            check_readback(temporary, expected, relative=1e-6, group=group)
            write_checksums(temporary)
            shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            failure = RunError(
                f"the model could not be written to {folder}: {error.strerror or error}. The last "
                f"checkpoint is intact; free space, and run the same command again to resume"
            )
        except Exception as error:
            shutil.rmtree(temporary, ignore_errors=True)
            failure = error
    failure = control.broadcast(failure)
    if failure is not None:
        raise failure


def save_settings(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    serving: ServingSettings,
) -> None:
    """Save the tokenizer with its template, and the generation config with the end tokens.

    Args:
        model: The model that is saved.
        tokenizer: Gets the chat template.
        folder: Folder of the model.
        serving: Template and end tokens.
    """
    end_ids = serving.end_ids
    if serving.chat_template is not None:
        tokenizer.chat_template = serving.chat_template
    tokenizer.save_pretrained(folder)
    settings = copy.deepcopy(getattr(model, "generation_config", None))
    if settings is None or not end_ids:
        return
    existing = settings.eos_token_id
    existing = [existing] if isinstance(existing, int) else list(existing or ())
    settings.eos_token_id = list(dict.fromkeys([*existing, *end_ids]))
    settings.save_pretrained(folder)


def _gather_state(trainer: Any, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the full state of `model` on the main process, gathered if it is sharded."""
    wrapped = trainer.model_wrapped if trainer.model_wrapped is not None else trainer.model
    # DeepSpeed gathers on the main process and returns None on the others.
    state: dict[str, torch.Tensor] = trainer.accelerator.get_state_dict(wrapped) or {}
    unwrapped = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    (name,) = (name for name, module in unwrapped.named_modules() if module is model)
    prefix = f"{name}." if name else ""
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }
