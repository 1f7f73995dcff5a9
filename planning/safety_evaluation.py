"""Time and memory of `evaluate.safety`, which runs on one device when training has ended."""

from __future__ import annotations

import math

from planning.decoding import SHARE_OF_ANSWER, token_s
from planning.document import Range
from planning.machine import Machine
from planning.model_shape import ModelShape
from safety.job_files import probes_of, questions_of
from training.config import Job

_QUESTION_TOKENS = 60
"""Tokens of a question of BBQ with one of its three answers. An estimate."""
_FORWARD_MFU = Range(0.1, 0.5)
"""Share of the peak that a forward pass over short rows reaches. An estimate."""
_GIB = 2.0**30


def safety_s(job: Job, shape: ModelShape, machine: Machine, load_gb_s: Range) -> Range:
    """Return the seconds of the safety evaluation; zero if the job has none.

    Args:
        job: The run.
        shape: Shape of its model.
        machine: The machine.
        load_gb_s: Rate at which weights are read.

    Raises:
        JobError: A file of probes cannot be used.
        DataError: A file of questions cannot be used.
    """
    safety, device = job.evaluate.safety, machine.device
    if safety is None:
        return Range(0.0, 0.0)
    size = _weight_bytes(machine)
    peak = (device.fp32_tflops if size == 4 else device.bf16_tflops) * 1e12
    read_gb = shape.parameters * size / 1e9
    low, high = read_gb / load_gb_s.high, read_gb / load_gb_s.low
    if safety.redteam is not None:
        probes = probes_of(safety.redteam)
        longest = max((len(script.turns) for script in probes.conversations), default=0)
        rounds = max((script.max_answers for script in probes.conversations), default=0)
        side_by_side = math.ceil(len(probes.conversations) / safety.batch_size)
        batches = math.ceil(len(probes.probes) / safety.batch_size)
        each = token_s(shape, device, safety.batch_size, weight_bytes=size, peak_flops=peak)
        new = safety.redteam.max_new_tokens
        low += (batches + side_by_side * longest) * new * SHARE_OF_ANSWER * each.low
        high += (batches + side_by_side * rounds) * new * each.high
    if safety.bias is not None:
        tokens = 3 * len(questions_of(safety.bias)) * _QUESTION_TOKENS
        flops = 2.0 * shape.active * tokens
        low += flops / peak / _FORWARD_MFU.high
        high += flops / peak / _FORWARD_MFU.low
    return Range(low, high)


def safety_gib(shape: ModelShape, machine: Machine) -> float:
    """Return the GiB of the weights that the safety evaluation loads onto one device."""
    return shape.parameters * _weight_bytes(machine) / _GIB


def _weight_bytes(machine: Machine) -> int:
    return 2 if machine.device.kind == "cuda" else 4
