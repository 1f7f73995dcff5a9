"""Metrics in Prometheus' text format, under vLLM's names.

Dashboards and autoscaling rules written for vLLM read them unchanged:
https://docs.vllm.ai/en/latest/usage/metrics.html.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterator, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LATENCIES = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
_LENGTHS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)


class Histogram:
    """Histogram with fixed buckets.

    Args:
        name: Name of the metric.
        text: Description.
        bounds: Upper bounds of the buckets.
    """

    def __init__(self, name: str, text: str, bounds: Sequence[float]):
        self._name, self._text, self._bounds = name, text, tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Add a value."""
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, model: str) -> Iterator[str]:
        """Yield the lines of the metric."""
        yield from _head(self._name, self._text, "histogram")
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{self._name}_bucket{{model_name="{model}",le="{bound}"}} {total}'
        yield f'{self._name}_count{{model_name="{model}"}} {total}'
        yield f'{self._name}_sum{{model_name="{model}"}} {self._sum:.9g}'


class ServingMetrics:
    """Metrics of a server.

    Args:
        model: Name of the model, the label of all metrics.
    """

    def __init__(self, model: str):
        self._model = model.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.finished: Counter[str] = Counter()
        self.first_token = Histogram(
            "vllm:time_to_first_token_seconds", "Time to first token in seconds.", _LATENCIES
        )
        self.inter_token = Histogram(
            "vllm:inter_token_latency_seconds", "Inter-token latency in seconds.", _LATENCIES
        )
        self.whole = Histogram(
            "vllm:e2e_request_latency_seconds", "Latency of complete requests.", _LATENCIES
        )
        self.prompt_lengths = Histogram(
            "vllm:request_prompt_tokens", "Tokens of the prompt of a request.", _LENGTHS
        )
        self.answer_lengths = Histogram(
            "vllm:request_generation_tokens", "Tokens of the answer to a request.", _LENGTHS
        )

    def render(self, running: int, waiting: int) -> str:
        """Return all metrics as text.

        Args:
            running: Answers in progress.
            waiting: Requests that wait for a place.
        """
        label = f'{{model_name="{self._model}"}}'
        gauges = (
            ("vllm:num_requests_running", "Requests in the engine's batch.", "gauge", running),
            ("vllm:num_requests_waiting", "Requests that wait for a place.", "gauge", waiting),
            ("vllm:prompt_tokens_total", "Tokens of prompts.", "counter", self.prompt_tokens),
            (
                "vllm:generation_tokens_total",
                "Tokens of answers.",
                "counter",
                self.generation_tokens,
            ),
        )
        lines: list[str] = []
        for name, text, kind, value in gauges:
            lines += [*_head(name, text, kind), f"{name}{label} {value}"]
        name = "vllm:request_success_total"
        lines += _head(name, "Requests that were answered.", "counter")
        for reason in sorted({"stop", "length", *self.finished}):
            lines.append(
                f'{name}{{model_name="{self._model}",finished_reason="{reason}"}} '
                f"{self.finished[reason]}"
            )
        for histogram in (
            self.first_token,
            self.inter_token,
            self.whole,
            self.prompt_lengths,
            self.answer_lengths,
        ):
            lines += histogram.lines(self._model)
        return "\n".join(lines) + "\n"


def _head(name: str, text: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
