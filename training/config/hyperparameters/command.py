"""The command `temper import`: print the job file of a file of Hugging Face hyperparameters."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from training.config.hyperparameters.settings import Hyperparameters, TrainerSettings
from training.config.hyperparameters.translate import Translation, translate
from training.config.load import parse_job, read_document
from training.errors import JobError, Problem
from validation.error_messages import explain

_ORDER = (
    *("name", "model", "data", "method", "adapter", "train", "precision", "checkpoint"),
    *("evaluate", "export", "resources"),
)


def print_imported_job(
    path: Path, *, name: str, model: str, data: str, validation: str, devices: int
) -> None:
    """Print the job file of the settings in `path`; notes are comments at its top.

    Args:
        path: A JSON or YAML file.
        name: Name of the job; that of the file if empty.
        model: Base model, if the file names none.
        data: Training data.
        validation: Share or source of held-out rows; none if empty.
        devices: Accelerators of the original run.

    Raises:
        JobError: The settings cannot be read, or the job would be invalid.
    """
    settings = _read(path)
    result = translate(settings, devices)
    document = _completed(result, path, name=name, model=model, data=data, validation=validation)
    parse_job(document, f"the job of {path}")
    for note in result.notes:
        sys.stdout.write(f"# {note}.\n")
    yaml.safe_dump(document, sys.stdout, sort_keys=False, allow_unicode=True, width=100)


def _read(path: Path) -> Hyperparameters:
    document = read_document(path)
    if not isinstance(document, dict):
        raise JobError(str(path), [Problem("(file)", "settings are one JSON object")])
    try:
        settings = Hyperparameters.model_validate(_nested(document))
    except ValidationError as error:
        raise JobError(str(path), explain(error, Hyperparameters)) from None
    trainer = settings.sft_config
    if trainer.fp16 and trainer.bf16:
        problem = Problem("sft_config", "fp16 and bf16 exclude each other", fix="Keep one of them")
        raise JobError(str(path), [problem])
    return settings


def _nested(document: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with arguments of the trainer moved from the top into `sft_config`.

    Forms have fields of their own for epochs, the learning rate, the batch size, the warm-up and
    early stopping; their values stand at the top and take precedence.
    """
    aliases = {"eval_strategy", "evaluation_strategy", "max_length", "max_seq_length"}
    names = set(TrainerSettings.model_fields) | aliases
    top = {key: value for key, value in document.items() if key in names}
    rest = {key: value for key, value in document.items() if key not in names}
    inner = rest.get("sft_config", {})
    if top and isinstance(inner, dict):
        rest["sft_config"] = {**inner, **top}
    return rest


def _completed(
    result: Translation, path: Path, *, name: str, model: str, data: str, validation: str
) -> dict[str, Any]:
    document = result.document
    document["name"] = name or re.sub(r"[^a-zA-Z0-9]+", "-", path.stem).strip("-")[:63] or "job"
    if model:
        document["model"] = {**document["model"], "source": model}
    problems = []
    if "source" not in document["model"]:
        problems.append(Problem("model.source", "is not in the settings", fix="Add --model"))
    if "early_stopping" in document["train"] and not validation:
        problems.append(
            Problem("early_stopping_patience", "needs held-out rows", fix="Add --validation 5%")
        )
    if not data:
        problems.append(Problem("data.train", "is not in the settings", fix="Add --data"))
    if problems:
        raise JobError(str(path), problems)
    document["data"] = {"train": data, **document["data"]}
    if validation:
        held_out = {"split": validation} if validation.endswith("%") else validation
        document["data"]["validation"] = held_out
    document["model"] = {"source": document["model"].pop("source"), **document["model"]}
    return {key: document[key] for key in _ORDER if key in document}
