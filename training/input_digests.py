"""Digests of a run's inputs, stored in its checkpoints and compared before it resumes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from training.config import Job
from training.config.input_paths import revision_of
from training.config.locations import Location, existing_path, locations
from training.config.model import SCRATCH
from training.data.prepare import Prepared
from training.errors import CheckpointError, ModelError
from training.models.safetensors_io import source_digest

_NAMES = {
    "data": "the training rows (data)",
    "validation": "the held-out rows (data.validation)",
    "chat_template": "the chat template (model.chat_template)",
    "tokenizer": "the tokenizer's vocabulary (model.tokenizer)",
    "model": "the weights of the base (model.source)",
    "base_model": "the weights of the adapter's base (model.base_model)",
}


def input_digests(
    job: Job, data: Prepared, tokenizer: PreTrainedTokenizerBase
) -> dict[str, str | None]:
    """Return the digest of each input of a run; None for an input that it does not have.

    Other models (teachers, reward models, judges, critics, members of a composition) are named by
    their key in the job.

    Args:
        job: The run.
        data: Its prepared rows.
        tokenizer: Its tokenizer.
    """
    scratch, base = job.model.source == SCRATCH, job.model.base_model
    template = data.row_tokenizer.template
    return {
        **digests_of_other_models(job),
        "data": data.train.digest,
        "validation": data.validation.digest if data.validation is not None else None,
        "chat_template": _digest(template.source) if template else None,
        "tokenizer": _digest(sorted(tokenizer.get_vocab().items())),
        "model": None if scratch else source_digest(job.model.source, job.model.revision),
        "base_model": None if base is None else source_digest(base, job.model.revision),
    }


def check_same_inputs(
    checkpoint: Path, metadata: dict[str, Any], digests: dict[str, str | None]
) -> None:
    """Raise if a checkpoint was trained on other inputs than those of this command.

    A checkpoint of an earlier version, which holds no digests, is accepted.

    Args:
        checkpoint: The checkpoint to resume from.
        metadata: Its metadata.
        digests: Digests of the present inputs.

    Raises:
        CheckpointError: Names every input that changed, and how to start over.
    """
    before = metadata.get("inputs") or digests
    changed = [
        f"{name} ({_short(before.get(key))} then, {_short(digests[key])} now)"
        for key, name in _NAMES.items()
        if before.get(key) != digests[key]
    ]
    # A model that cannot be found has no digest: a teacher is not needed once its targets are kept.
    changed += [
        f"the file or the weights of {key} ({_short(before[key])} then, {_short(digest)} now)"
        for key, digest in digests.items()
        if key not in _NAMES and digest and before.get(key) and before[key] != digest
    ]
    if changed:
        raise CheckpointError(
            f"{checkpoint.name} cannot be resumed: since it was written, {'; '.join(changed)} "
            f"changed. Restore what changed to resume, or start over with --fresh, "
            f"which keeps this run's folder and begins another"
        )


def digests_of_other_models(job: Job) -> dict[str, str | None]:
    """Return the digests of what a job names besides its data and the base, by key."""
    return {
        location.path: _digest_of(location, revision_of(job, location))
        for location in locations(job)
        if location.field.kind != "data" and location.key[0] != "model"
    }


def _digest_of(location: Location, revision: str | None) -> str | None:
    path = existing_path(location.value)
    if location.field.kind == "file":
        return hashlib.sha256(path.read_bytes()).hexdigest() if path and path.is_file() else None
    try:
        return source_digest(str(path or location.value), revision)
    except ModelError:
        return None


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _short(digest: str | None) -> str:
    return "none" if digest is None else digest[:8]
