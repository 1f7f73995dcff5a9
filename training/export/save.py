"""Write the trained model, read it back, and only then give it its name.

The folder `model/` loads with `from_pretrained` (an adapter with PEFT's).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from training.errors import RunError
from training.guards.saved_model import check_readback, norms_in_memory
from training.models.base_digest import write_base_digest
from training.trainer.distributed import ControlPlane


def save_model(
    trainer: Any,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    control: ControlPlane,
    *,
    chat_template: str | None = None,
    end_ids: Sequence[int] = (),
    card: Callable[[], str],
) -> None:
    """Save what was trained, from however many processes hold it.

    Args:
        trainer: Has trained.
        tokenizer: Saved beside the weights.
        folder: Takes the place of whatever was there.
        control: Every process must call this.
        chat_template: How conversations were written in training; None where there were none.
        end_ids: Tokens that end an answer, so that the saved model stops where it learned to.
        card: Writes its `README.md`; asked of one process only.

    Raises:
        GuardError: What was read back is not what was in memory.
        RunError: The folder cannot be written.
    """
    model = trainer.trained_model
    adapter = isinstance(model, PeftModel)
    expected = norms_in_memory(model, control, adapter=adapter)
    state = _gathered(trainer, model)
    failure: Exception | None = None
    if control.world.is_main_process:
        building = folder.with_name(f".writing-{folder.name}")
        try:
            shutil.rmtree(building, ignore_errors=True)
            which = {"selected_adapters": [model.active_adapter]} if adapter else {}
            model.save_pretrained(building, state_dict=state, safe_serialization=True, **which)
            if adapter:
                write_base_digest(building, str(model.active_peft_config.base_model_name_or_path))
            if chat_template is not None:
                tokenizer.chat_template = chat_template
            tokenizer.save_pretrained(building)
            _save_generation(model, building, end_ids)
            (building / "README.md").write_text(card(), encoding="utf-8")
            check_readback(building, expected, relative=1e-6)
            shutil.rmtree(folder, ignore_errors=True)
            building.rename(folder)
        except OSError as error:
            shutil.rmtree(building, ignore_errors=True)
            failure = RunError(
                f"the model could not be written to {folder}: {error.strerror or error}. The last "
                f"checkpoint is intact; free space, and the same command goes on"
            )
        except Exception as error:
            shutil.rmtree(building, ignore_errors=True)
            failure = error
    failure = control.broadcast(failure)
    if failure is not None:
        raise failure


def _save_generation(model: Any, folder: Path, end_ids: Sequence[int]) -> None:
    """Say where answers end."""
    settings = getattr(model, "generation_config", None)
    if settings is None or not end_ids:
        return
    known = settings.eos_token_id
    known = [known] if isinstance(known, int) else list(known or ())
    settings.eos_token_id = list(dict.fromkeys([*known, *end_ids]))
    settings.save_pretrained(folder)


def _gathered(trainer: Any, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the whole state of `model` on the first process, gathered where it is sharded."""
    wrapped = trainer.model_wrapped if trainer.model_wrapped is not None else trainer.model
    # DeepSpeed gathers on the first process, and gives the others None.
    state: dict[str, torch.Tensor] = trainer.accelerator.get_state_dict(wrapped) or {}
    whole = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    (name,) = (name for name, module in whole.named_modules() if module is model)
    prefix = f"{name}." if name else ""
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }
