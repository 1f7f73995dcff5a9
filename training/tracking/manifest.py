"""Writer of `manifest.json`: versions, hardware, seed and hashes that reproduce a run."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sized
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from training import __version__
from training.config import Job
from training.data.readers.sources import prepared_digest
from training.models.flops import device_name

_PACKAGES = (
    *("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers"),
    *("deepspeed", "bitsandbytes", "safetensors", "pydantic"),
)


def write_manifest(
    folder: Path, job: Job, data: Any, model: Any, setup: Any, tokenizer: Any
) -> None:
    """Write the manifest on the main process; a resume adds its time to the earlier one.

    Args:
        folder: The run folder.
        job: The resolved job.
        data: The prepared rows.
        model: The loaded model with its adapter.
        setup: The trainer context.
        tokenizer: The tokenizer, hashed by its vocabulary.
    """
    if not setup.world.is_main_process:
        return
    path = folder / "manifest.json"
    earlier = json.loads(path.read_text()) if path.exists() else {}
    manifest = {
        "name": job.name,
        "started": earlier.get("started", _now()),
        "resumed": [*earlier.get("resumed", []), _now()] if earlier else [],
        "temper": __version__,
        "commit": _commit(),
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in _PACKAGES},
        "hardware": {
            "host": platform.machine(),
            "cores": os.cpu_count(),
            "device": str(setup.world.device.type),
            "device_name": device_name(),
            "processes": setup.world.size,
        },
        "seed": job.train.seed,
        "data": {
            "train": data.train.digest,
            "validation": data.validation.digest if data.validation is not None else None,
            "rows": len(data.train) if isinstance(data.train, Sized) else None,
            "prepared": _prepared(job),
        },
        "tokenizer": hashlib.sha256(
            json.dumps(sorted(tokenizer.get_vocab().items())).encode()
        ).hexdigest(),
        "model": {
            "source": job.model.source,
            "model_package_arn": job.model.model_package_arn,
            "parameters": sum(_size(p) for p in model.parameters()),
            "trainable": sum(_size(p) for p in model.parameters() if p.requires_grad),
        },
        "steps": setup.order.max_steps,
        "micro_batch_size": setup.micro_batch_size,
        "accumulation": job.train.global_batch_size // (setup.micro_batch_size * setup.world.size),
    }
    path.write_text(json.dumps(manifest, indent=1) + "\n")


def _prepared(job: Job) -> dict[str, str]:
    """Return the digest of each source that `temper prepare` has made."""
    found = {source.source: prepared_digest(source) for source in job.data.train}
    return {name: digest for name, digest in found.items() if digest is not None}


def _size(parameter: Any) -> int:
    """Return the elements of the full parameter, also if it is sharded or quantized to 4 bits."""
    if hasattr(parameter, "ds_numel"):
        return int(parameter.ds_numel)
    state = getattr(parameter, "quant_state", None)
    return int(state.shape.numel() if state is not None else parameter.numel())


def _now() -> str:
    return time.strftime("%FT%TZ", time.gmtime())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    # An image contains no repository; its build sets the variable.
    if (commit := os.environ.get("TEMPER_COMMIT", "unknown")) != "unknown":
        return commit
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
