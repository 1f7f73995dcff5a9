"""Train jobs on the simulated CUDA device: `python -m tests.simulated_cuda.walk HOME`.

`HOME/jobs.json` maps the name of each cell to its job, or to the fault to plant first (`FAULTS`)
and its job. Everything runs as it does on a GPU, from `training.pipeline.run` down, but for
`REPLACED`. `HOME/results.jsonl` gets a line for each cell.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import bitsandbytes  # noqa: F401  (it calls CUDA when it is imported with a device)
import torch
import transformers.utils.import_utils
import trl  # noqa: F401
from transformers import PreTrainedModel
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

import training.methods.common.causal_lm as causal_lm
import training.pipeline as pipeline
from tests.run_commands import ROOT, Run
from tests.simulated_cuda.device import DEVICE, install
from tests.simulated_cuda.tensors import CudaMode, TensorFunctions, apply_in_place
from training.config import Job
from training.config.load import parse_job
from training.export.model_saver import ModelSaver
from training.run_folder import RunFolder
from training.trainer.distributed import World
from training.trainer.resumable import ResumableTrainerMixin

_LOAD_MODEL = pipeline.load_model
_LOSS = causal_lm.CausalLmTrainer.compute_loss


def _nothing(*_: Any, **__: Any) -> None:
    """Do nothing."""


def _load(job: Job, tokenizer: Any, device: torch.device) -> PreTrainedModel:
    """Load a model; quantize a 4-bit one on the CPU and move it to the device.

    Its weights (`Params4bit`) are a subclass of tensors, which a fake tensor cannot become. The
    operators of bitsandbytes declare the shapes of their results, and have values on a CPU.
    """
    if job.adapter is None or not job.adapter.quantized:
        return _LOAD_MODEL(job, tokenizer, device)
    with patch.object(Bnb4BitHfQuantizer, "update_device_map", lambda *_: {"": "cpu"}):
        model = _LOAD_MODEL(job, tokenizer, device)
    model._apply(lambda tensor: tensor.to(device))
    for parameter in model.parameters():
        if getattr(parameter, "quant_state", None) is not None:
            parameter.quant_state.to(device)
    model.hf_device_map = {"": 0}
    return model


REPLACED: list[tuple[Any, str, Any, str]] = [
    (pipeline, "detect_world", lambda: World(0, 0, 1, DEVICE), "the device is simulated"),
    (pipeline, "load_model", _load, "a 4-bit weight cannot be a fake tensor before it is moved"),
    (ModelSaver, "rehearse", lambda saver, _: saver, "files are not part of a step"),
    (ModelSaver, "save", _nothing, "files are not part of a step"),
    (pipeline, "_finish", _nothing, "files are not part of a step"),
    (ResumableTrainerMixin, "_save_checkpoint", _nothing, "files are not part of a step"),
    (
        transformers.utils.import_utils,
        "is_fake_tensor",
        lambda _: False,
        "Transformers takes other branches for tensors without values",
    ),
]
"""Owner, name, replacement and reason of everything that does not run as on a GPU."""


def _on_cpu(trainer: Any, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
    return _LOSS(trainer, model, inputs, *rest, **named) + torch.zeros(2).sum(0, keepdim=True)


def _arange(trainer: Any, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
    positions = torch.arange(inputs["input_ids"].shape[1])
    return _LOSS(trainer, model, inputs, *rest, **named) + 0 * (inputs["labels"] * positions).sum()


def _to_list(trainer: Any, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
    inputs["input_ids"].tolist()
    return _LOSS(trainer, model, inputs, *rest, **named)


FAULTS = {"zeros on the CPU": _on_cpu, "arange on the CPU": _arange, "tolist": _to_list}
"""Losses with a fault that only a GPU shows."""


def walk(mode: CudaMode, job: dict[str, Any], fault: str | None, folder: Path) -> dict[str, Any]:
    """Return how a job ended, its losses and its syncs.

    Args:
        mode: Device.
        job: Document of the job.
        fault: Key of `FAULTS` to plant; None to change nothing.
        folder: New run folder.
    """
    mode.syncs.clear()
    mode.four_bit = 0
    began, error, place = time.process_time(), "", ""
    try:
        with contextlib.ExitStack() as stack:
            for owner, name, replacement, _ in REPLACED:
                stack.enter_context(patch.object(owner, name, replacement))
            if fault:
                stack.enter_context(
                    patch.object(causal_lm.CausalLmTrainer, "compute_loss", FAULTS[fault])
                )
            stack.enter_context(patch.object(torch.nn.Module, "_apply", apply_in_place(mode)))
            stack.enter_context(mode)
            stack.enter_context(TensorFunctions())
            pipeline.run(RunFolder.create(folder, parse_job(job, "cell")))
    except Exception as raised:
        operator = getattr(raised, "func", "")
        error = f"{type(raised).__name__} {operator}: {str(raised)[:500]}"
        place = _place(raised)
    steps = Run(folder).steps if (folder / "metrics.jsonl").exists() else []
    return {
        "error": error,
        "place": place,
        "losses": [step["loss"] for step in steps],
        "syncs": [[*sync, count] for sync, count in sorted(mode.syncs.items())],
        "four_bit": mode.four_bit,
        "seconds": round(time.process_time() - began, 2),
    }


def _place(raised: Exception) -> str:
    """Return the innermost line that is not torch's or this folder's."""
    frames = [
        frame
        for frame in traceback.extract_tb(raised.__traceback__)
        if "/site-packages/torch/" not in frame.filename
        and Path(frame.filename).name not in ("tensors.py", "_compile.py")
    ]
    frame = frames[-1]
    file = frame.filename.partition("site-packages/")[2] or frame.filename.removeprefix(f"{ROOT}/")
    return f"{file}:{frame.lineno} ({frame.line})"


@contextlib.contextmanager
def _quiet(log: Path) -> Iterator[None]:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        yield
    log.write_text(text.getvalue())


def main(home: Path) -> None:
    """Walk every job of a folder."""
    os.environ["TEMPER_CACHE"] = str(home / "cache")
    torch.set_num_threads(1)
    install()
    mode = CudaMode()
    jobs = json.loads((home / "jobs.json").read_text())
    for number, (name, (fault, job)) in enumerate(jobs.items()):
        # Collecting what libraries hold would take a third of the time.
        gc.freeze()
        folder = home / f"run-{number}"
        with _quiet(home / "log.txt"):
            result = walk(mode, job, fault, folder)
        shutil.rmtree(folder, ignore_errors=True)
        with (home / "results.jsonl").open("a") as file:
            file.write(json.dumps({"cell": name, **result}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
