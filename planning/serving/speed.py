"""Latency and throughput of a placement: the time of reading memory, computing and communicating.

A step of decoding reads all weights that its tokens use, and the cache of its requests; it takes
the longer of that and of its arithmetic (the roofline model, doi:10.1145/1498765.1498785). Ranges
are the shares of the peaks that servers reach.
"""

from __future__ import annotations

from dataclasses import dataclass

from planning.document import Range
from planning.model_shape import DOWN, GATE_UP, ModelShape
from planning.serving.placement import Placement, weight_bytes
from planning.serving.workload import ServingWorkload

_BANDWIDTH_SHARE = Range(0.5, 0.85)
"""Share of the memory bandwidth that decoding reaches. An estimate."""
_PREFILL_SHARE = Range(0.3, 0.6)
"""Share of the dense peak that the prompts' matrix products reach. An estimate."""
_ALL_REDUCE_S = Range(8e-6, 40e-6)
"""Latency of one all-reduce; two follow in each layer. An estimate."""
_PCIE_GB_S = 16.0
_STEP_S = Range(0.0005, 0.004)
"""Scheduling, sampling and detokenization of a step. An estimate."""


@dataclass(frozen=True)
class ServingSpeed:
    """Speed of a placement. The low end of a range is the better one for times, not for rates.

    Attributes:
        prefill_s: Time to process one prompt alone.
        token_s: Time between two tokens of a request alone.
        loaded_token_s: Time between two tokens with all sequences decoded together.
        requests_per_s: Largest rate of requests of the instance.
        answer_tokens_per_s: Largest rate of generated tokens of the instance.
    """

    prefill_s: Range
    token_s: Range
    loaded_token_s: Range
    requests_per_s: Range
    answer_tokens_per_s: Range

    @property
    def ttft_s(self) -> Range:
        """Time to the first token of a request alone."""
        low, high = (
            self.prefill_s.low + self.token_s.low,
            self.prefill_s.high + self.token_s.high,
        )
        return Range(low, high)


def speed(shape: ModelShape, placement: Placement, workload: ServingWorkload) -> ServingSpeed:
    """Return the speed of a model on an instance.

    Args:
        shape: Shape of the model.
        placement: Its placement.
        workload: The requests.
    """
    prefill = _prefill_s(shape, placement, workload)
    alone = _step_s(shape, placement, workload, 1)
    loaded = _step_s(shape, placement, workload, placement.sequences)
    rates = []
    for prefill_s, step_s in zip(prefill, loaded, strict=True):
        # Prompts take their turn between the steps of decoding.
        busy_s = prefill_s + workload.answer_tokens * step_s / placement.sequences
        rates.append(placement.copies / busy_s)
    requests = Range(rates[1], rates[0])
    tokens = Range(requests.low * workload.answer_tokens, requests.high * workload.answer_tokens)
    # While others' prompts are processed, a request waits: its share of the time is theirs.
    shares = [
        prefill_s * placement.sequences / workload.answer_tokens + step_s
        for prefill_s, step_s in zip(prefill, loaded, strict=True)
    ]
    return ServingSpeed(prefill, alone, Range(shares[0], shares[1]), requests, tokens)


def _prefill_s(shape: ModelShape, placement: Placement, workload: ServingWorkload) -> Range:
    """Return the time to process one prompt, without the tokens that all prompts share."""
    tokens = workload.prompt_tokens - workload.shared_tokens
    pairs = workload.prompt_tokens**2 - workload.shared_tokens**2  # causal: half of all
    attention = 2 * shape.layers * shape.heads * shape.head_dim * pairs
    flops = 2.0 * shape.active * tokens + attention
    reached = _peak(placement) * placement.tensor_parallel
    low, high = _communication_s(shape, placement, tokens)
    best = flops / (reached * _PREFILL_SHARE.high) + low
    worst = flops / (reached * _PREFILL_SHARE.low) + high
    return Range(best, worst)


def _step_s(
    shape: ModelShape, placement: Placement, workload: ServingWorkload, sequences: int
) -> Range:
    """Return the time of one step of decoding.

    Args:
        shape: Shape of the model.
        placement: Its placement.
        workload: The requests.
        sequences: Number of requests that are decoded together.
    """
    parallel, device = placement.tensor_parallel, placement.instance.accelerator
    read = _read_weights(shape, sequences) * weight_bytes(placement.dtype) / parallel
    read += shape.vocab * shape.hidden * 2 / parallel
    read += sequences * workload.cached_tokens * placement.cache_bytes_per_token
    reading_s = read / (device.bandwidth_gb_s * 1e9)
    computing_s = 2.0 * shape.active * sequences / (_peak(placement) * parallel)
    times = []
    communicating = _communication_s(shape, placement, sequences)
    for share, other_s, overhead_s in zip(
        (_BANDWIDTH_SHARE.high, _BANDWIDTH_SHARE.low), communicating, _STEP_S, strict=True
    ):
        times.append(max(reading_s, computing_s) / share + other_s + overhead_s)
    return Range(times[0], times[1])


def _read_weights(shape: ModelShape, sequences: int) -> float:
    """Return how many weights of the layers a step reads: those of the experts that are chosen."""
    weights = float(shape.layers * shape.per_layer)
    if shape.experts:
        experts = shape.layers * (shape.mixture[GATE_UP] + shape.mixture[DOWN])
        unused = (1 - shape.experts_per_token / shape.experts) ** sequences
        weights -= experts * unused
    return weights


def _communication_s(shape: ModelShape, placement: Placement, tokens: int) -> Range:
    """Return the time of the all-reduces of a step, two in each layer."""
    parallel, device = placement.tensor_parallel, placement.instance.accelerator
    if parallel == 1:
        return Range(0.0, 0.0)
    # A ring sends 2 (n - 1) / n of the data over each link.
    sent = 2 * (parallel - 1) / parallel * tokens * shape.hidden * 2
    sending_s = sent / ((device.link_gb_s or _PCIE_GB_S) * 1e9)
    return Range(*(2 * shape.layers * (latency + sending_s) for latency in _ALL_REDUCE_S))


def _peak(placement: Placement) -> float:
    device = placement.instance.accelerator
    return device.bf16_tflops * 1e12 * (2 if placement.dtype == "fp8" else 1)
