"""Duration of a job: compute, communication, rollouts, start-up, checkpoints and evaluations."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from planning.dataset_stats import DatasetStats
from planning.decoding import SHARE_OF_ANSWER, token_s
from planning.document import Range
from planning.machine import Machine
from planning.method_costs import step_profile
from planning.model_shape import ModelShape
from planning.peak_memory import ParallelismChoice
from planning.safety_evaluation import safety_s
from planning.suite_evaluation import SuiteWork, suite_s
from planning.trainable_params import lowest_trained_layer
from training.config import Job
from training.config.step_profile import StepSpec
from training.config.types import NEVER, Every

# Share of the peak that training reaches, counted as 6 FLOPs per trained weight and token and 4 per
# frozen one. CUDA: ms-swift's tables (14B full, ZeRO 2 and 3 on A800: 44-45 %), torchtune's (3B
# full with recomputation on A100: about 50 %), LLaMA-Factory's (7B LoRA on A100: 21-26 %); QLoRA
# takes 1.56 times as long as LoRA in litgpt's. Trainium and CPU: nothing is published; a wide
# guess.
_MFU = {
    ("cuda", "full"): Range(0.28, 0.50),
    ("cuda", "lora"): Range(0.20, 0.40),
    ("cuda", "qlora"): Range(0.13, 0.26),
    ("neuron", "full"): Range(0.12, 0.35),
    ("neuron", "lora"): Range(0.08, 0.28),
    ("neuron", "qlora"): Range(0.05, 0.18),
    ("cpu", "full"): Range(0.25, 1.0),
    ("cpu", "lora"): Range(0.2, 0.9),
    ("cpu", "qlora"): Range(0.02, 0.2),
}
_START_S = {"rented": Range(240.0, 900.0), "here": Range(8.0, 40.0)}
"""Start-up: waiting for instances, pulling the image and starting processes; on this machine,
importing and loading."""
_LOAD_GB_S = {"rented": Range(0.3, 1.5), "here": Range(0.5, 3.0)}
"""Rate at which weights are read and checkpoints are written."""
_TOKENIZE_CHARS_S = 1e6
"""Characters that one core tokenizes per second."""
_PCIE_GB_S = 12.0
"""PCIe bandwidth between two devices in one direction while all of them communicate."""


@dataclass(frozen=True)
class DurationEstimate:
    """Estimated duration of a job.

    Attributes:
        steps: Optimizer steps.
        tokens: Tokens computed, padding included.
        flops: FLOPs of forward and backward, without recomputation.
        train_s: Seconds in the training loop.
        around_s: Seconds of start-up, tokenizing, checkpoints and evaluations.
        fewest_steps: First step at which early stopping may end the run; `steps` without it.
    """

    steps: int
    tokens: float
    flops: float
    train_s: Range
    around_s: Range
    fewest_steps: int

    @property
    def hours(self) -> Range:
        """Wall time."""
        return Range(
            (self.train_s.low + self.around_s.low) / 3600,
            (self.train_s.high + self.around_s.high) / 3600,
        )


def estimate_duration(
    job: Job,
    shape: ModelShape,
    machine: Machine,
    choice: ParallelismChoice,
    rows: DatasetStats,
    learned: int,
) -> DurationEstimate:
    """Return the estimated duration of a job.

    Args:
        job: The run.
        shape: Shape of its model.
        machine: The machine.
        choice: Micro-batch size, checkpointing and ZeRO stage.
        rows: Statistics of its data.
        learned: Number of trained weights.
    """
    batch = job.train.global_batch_size
    steps = job.train.max_steps or max(
        1, math.ceil(rows.train * job.train.num_train_epochs / batch)
    )
    length = job.data.max_length if job.data.packing else rows.tokens
    tokens = float(steps * batch * length)
    lowest = lowest_trained_layer(job, shape, checkpointing=choice.checkpointing)
    flops = tokens * flops_per_token(shape, length, learned, lowest)
    peak = _peak_flops(job, machine)
    kind = "full" if job.adapter is None else "qlora" if job.adapter.quantized else "lora"
    reached = _MFU[machine.device.kind, kind]
    again = 4 / 3 if choice.checkpointing and kind != "full" else 1.0
    sent_s = _sent_s(job, shape, machine, choice, learned, steps)
    spoken = _spoken_s(job, shape, machine, choice, rows, steps)
    train = Range(
        max(flops / peak / reached.high, sent_s) + spoken.low,
        flops * again / peak / reached.low + sent_s + spoken.high,
    )
    around = _around_s(job, shape, machine, rows, train, flops / max(tokens, 1) / peak, learned)
    return DurationEstimate(steps, tokens, flops, train, around, _fewest_steps(job, steps, rows))


def with_suite(
    taken: DurationEstimate,
    work: SuiteWork,
    shape: ModelShape,
    machine: Machine,
    rows: DatasetStats,
) -> tuple[DurationEstimate, Range]:
    """Return a duration that includes the evaluation on suites, and the seconds of that.

    Args:
        taken: Duration of the training.
        work: Requests of the suites.
        shape: Shape of the model.
        machine: The machine.
        rows: Statistics of the training data.
    """
    rate = _LOAD_GB_S["rented" if machine.rented else "here"]
    suite = suite_s(work, shape, machine, rate, rows.train)
    around = Range(taken.around_s.low + suite.low, taken.around_s.high + suite.high)
    return replace(taken, around_s=around), suite


def flops_per_token(shape: ModelShape, length: float, learned: int, lowest: int = 0) -> float:
    """Return the FLOPs of forward and backward for one token.

    These are 6 per trained weight, 4 per frozen weight, 2 per weight below the lowest trained
    layer, and those of attention, halved because it is causal (arXiv:2204.02311, appendix B).

    Args:
        shape: Shape of the model.
        length: Tokens of a row.
        learned: Number of trained weights.
        lowest: Index of the lowest layer that a gradient must reach.
    """
    trained = min(learned, shape.active)
    frozen = shape.active - trained if learned < shape.parameters * 0.9 else 0
    below = min(frozen, replace(shape, layers=lowest).active - replace(shape, layers=0).active)
    layers = shape.layers - 2 / 3 * lowest
    attention = 6.0 * layers * shape.heads * shape.head_dim * length
    return 6.0 * (shape.active - frozen) + 4.0 * (frozen - below) + 2.0 * below + attention


def _peak_flops(job: Job, machine: Machine) -> float:
    device = machine.device
    tflops = device.fp32_tflops if job.precision == "fp32" else device.bf16_tflops
    world = 1 if device.kind == "cpu" else machine.world
    return tflops * 1e12 * world


def _spoken_s(
    job: Job,
    shape: ModelShape,
    machine: Machine,
    choice: ParallelismChoice,
    rows: DatasetStats,
    steps: int,
) -> Range:
    """Return the seconds of the rollouts; decoding a token reads every weight once."""
    share = -(-job.train.global_batch_size // machine.world)
    rollout = step_profile(job, StepSpec(choice.rows, share, rows.longest)).rollout
    if rollout is None:
        return Range(0.0, 0.0)
    device = machine.device
    size = 4.0 if job.precision == "fp32" else 2.0
    peak = _peak_flops(job, machine) / (1 if device.kind == "cpu" else machine.world)
    rounds = job.method.rollout_schedule(job.train.global_batch_size)
    times = steps / (rounds[1] if rounds else 1) * math.ceil(share / rollout.answers)
    low, high = token_s(shape, device, rollout.answers, weight_bytes=size, peak_flops=peak)
    tokens = times * rollout.new
    return Range(tokens * SHARE_OF_ANSWER * low, tokens * high)


def _sent_s(
    job: Job,
    shape: ModelShape,
    machine: Machine,
    choice: ParallelismChoice,
    learned: int,
    steps: int,
) -> float:
    """Return the seconds of communicating gradients (with ZeRO 3, weights too), without overlap."""
    if machine.world == 1 or machine.device.kind == "cpu":
        return 0.0
    weights, per_device = 2.0 * shape.parameters, machine.device.link_gb_s or _PCIE_GB_S
    in_step = max(1, job.train.global_batch_size // (choice.rows * machine.world))
    sent = 2.0 * 2.0 * learned
    if choice.zero == 3 or job.sharding.fsdp != "none":
        sent += 2.0 * weights * in_step
    inside = sent / (per_device * 1e9)
    between = sent / (machine.instance.network_gbps / 8 * 1e9) if machine.count > 1 else 0.0
    return steps * max(inside, between)


def _around_s(
    job: Job,
    shape: ModelShape,
    machine: Machine,
    rows: DatasetStats,
    train: Range,
    s_per_token: float,
    learned: int,
) -> Range:
    where = "rented" if machine.rented else "here"
    start, rate = _START_S[where], _LOAD_GB_S[where]
    weights_gb = shape.parameters * 2 / 1e9
    saved_gb = learned * 14 / 1e9
    saves = _times(job.checkpoint.every, train.high, job, rows) + 1
    measured = rows.held_out * rows.tokens * (2 + _times(job.evaluate.every, train.high, job, rows))
    tokenizing = rows.size_gib * 2**30 / (_TOKENIZE_CHARS_S * machine.instance.vcpus)
    evaluating = measured * s_per_token / 3
    safety = safety_s(job, shape, machine, rate)
    return Range(
        start.low
        + weights_gb / rate.high
        + saves * saved_gb / rate.high
        + tokenizing / 2
        + evaluating
        + safety.low,
        start.high
        + weights_gb / rate.low
        + saves * saved_gb / rate.low
        + tokenizing * 2
        + evaluating * 4
        + safety.high,
    )


def _times(every: Every, train_s: float, job: Job, rows: DatasetStats) -> int:
    """Return how often a periodic event occurs during training."""
    if every == NEVER:
        return 0
    steps = job.train.max_steps or rows.train * job.train.num_train_epochs / (
        job.train.global_batch_size
    )
    per_epoch = max(1.0, rows.train / job.train.global_batch_size)
    length = {"seconds": train_s, "steps": steps, "epochs": steps / per_epoch}[every.unit]
    return int(length / every.value)


def _fewest_steps(job: Job, steps: int, rows: DatasetStats) -> int:
    """Return the first step at which early stopping could end the run."""
    stopping, every = job.train.early_stopping, job.evaluate.every
    if stopping is None or every == NEVER or every.unit == "seconds":
        return steps
    per_epoch = max(1.0, rows.train / job.train.global_batch_size)
    interval = every.value * (per_epoch if every.unit == "epochs" else 1)
    return min(steps, math.ceil(interval * (stopping.patience + 1)))
