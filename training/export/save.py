"""Write the trained model, read it back, and only then give it its name.

The folder `model/` loads with `from_pretrained` (an adapter with PEFT's).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from training.engine.world import ControlPlane
from training.errors import RunError
from training.guards.readback import check_readback, norms_in_memory


def save_model(
    trainer: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, control: ControlPlane
) -> None:
    """Save what was trained, from however many processes hold it.

    Raises:
        GuardError: What was read back is not what was in memory.
        RunError: The folder cannot be written.
    """
    adapter = isinstance(trainer.accelerator.unwrap_model(trainer.model), PeftModel)
    expected = norms_in_memory(trainer.model, control, adapter=adapter)
    state = _gathered(trainer)
    failure: Exception | None = None
    if control.world.is_first:
        building = folder.with_name(f".writing-{folder.name}")
        try:
            shutil.rmtree(building, ignore_errors=True)
            model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
            model.save_pretrained(building, state_dict=state, safe_serialization=True)
            tokenizer.save_pretrained(building)
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
    failure = control.first_says(failure)
    if failure is not None:
        raise failure


def _gathered(trainer: Any) -> dict[str, torch.Tensor]:
    """Return the whole state on the first process, gathered where it is sharded."""
    wrapped = trainer.model_wrapped if trainer.model_wrapped is not None else trainer.model
    state: dict[str, torch.Tensor] = trainer.accelerator.get_state_dict(wrapped)
    return state
