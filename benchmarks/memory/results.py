"""Result of one configuration, and the table of all results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.readme_tables import circumstances, table

_MIB, _GIB = 2**20, 2**30
_CLOSE, _UNDER = 0.05, -0.03


@dataclass(frozen=True)
class MemoryResult:
    """Measured and estimated peak bytes on the device that holds the most.

    Attributes:
        group: The heading it is listed under.
        name: The difference from the base job.
        measured: The measured peak.
        plan: The estimate of Temper's plan.
        deepspeed: The estimate of DeepSpeed; None if it has no estimator.
        accelerate: The estimate of Accelerate.
        rule: The estimate of the rule of thumb.
        error: The reason why it could not be measured.
    """

    group: str
    name: str
    measured: int = 0
    plan: int = 0
    deepspeed: int | None = None
    accelerate: int = 0
    rule: int = 0
    error: str = ""

    def error_of(self, estimate: int | None) -> float | None:
        """Return the relative error of an estimate."""
        return None if estimate is None else estimate / self.measured - 1

    def line(self) -> str:
        """Return the result as a line of text."""
        if self.error:
            return f"{self.group}: {self.name}: {self.error}"
        return (
            f"{self.group}: {self.name}: measured {_size(self.measured)}, "
            f"plan {_size(self.plan)} ({_share(self.error_of(self.plan))})"
        )


def section(results: Sequence[MemoryResult]) -> str:
    """Return the section of the results page."""
    trained = [result for result in results if result.group != "simulated"]
    simulated = [result for result in results if result.group == "simulated"]
    failed = _failed(results)
    unmeasured = "\n".join(["", "Not measured:", "", *failed]) if failed else ""
    return f"""## Memory: the plan against the allocator

Llamas of 10, 33 and 83 million parameters (and a Qwen3 of 11), trained by Temper for two steps on a
CPU, with rows of 256 tokens unless the name says otherwise, each configuration in separate
processes. "Measured" is the peak of tensor memory between the end of the first step and the end of
training, as PyTorch's allocator counts it, in the process that holds the most. "Plan" is the
estimate of `temper plan` without its parts outside tensors (runtime, fragmentation). {_PEERS}
{circumstances(("torch", "transformers", "trl", "deepspeed", "accelerate"))} `make bench-memory`.

{_both(trained)}

### Simulated: 1 to 70 billion parameters

The same step under PyTorch's `FakeTensorMode`, where tensors have a shape and no data. The model
code is that of Transformers, the output head and the adapters are Temper's; a dispatch mode counts
the live bytes.
{_SIMULATED}

{_both(simulated)}
{unmeasured}
"""


_PEERS = """The other columns are
the errors of DeepSpeed's `estimate_zero2/3_model_states_mem_needs`, of `accelerate estimate-memory`
(training with Adam), and of the rule of thumb "weights + gradients + 2 × optimizer states" for the
trained parameters. None of them counts activations."""
_SIMULATED = """Several devices are simulated as one rank of an FSDP2 group."""


def _both(results: Sequence[MemoryResult]) -> str:
    if all(one.error for one in results):
        return "None was measured."
    return f"{_summary(results)}\n\n{_table(results)}"


def _failed(results: Sequence[MemoryResult]) -> list[str]:
    """Return a line for each reason why configurations could not be measured."""
    names: dict[str, list[str]] = {}
    for one in results:
        if one.error:
            names.setdefault(one.error, []).append(f"{one.group}: {one.name}")
    return [f"- {error}: {'; '.join(which)}" for error, which in names.items()]


def _table(results: Sequence[MemoryResult]) -> str:
    header = ["", "", "measured", "plan", "off", "DeepSpeed", "Accelerate", "rule of thumb"]
    rows = [
        [
            one.group,
            one.name,
            _size(one.measured),
            _size(one.plan),
            f"**{_share(one.error_of(one.plan))}**",
            _share(one.error_of(one.deepspeed)),
            _share(one.error_of(one.accelerate)),
            _share(one.error_of(one.rule)),
        ]
        for one in results
        if not one.error
    ]
    return table(header, rows)


def _summary(results: Sequence[MemoryResult]) -> str:
    known = [one for one in results if not one.error]
    says: list[tuple[str, Callable[[MemoryResult], int | None]]] = [
        ("Temper's plan", lambda one: one.plan),
        ("DeepSpeed's estimators", lambda one: one.deepspeed),
        ("accelerate estimate-memory", lambda one: one.accelerate),
        ("rule of thumb", lambda one: one.rule),
    ]
    rows = []
    for name, figure in says:
        off = [x for one in known if (x := one.error_of(figure(one))) is not None]
        if off:
            rows.append(
                [
                    name,
                    len(off),
                    f"{sum(abs(x) <= _CLOSE for x in off) / len(off):.0%}",
                    _share(median(map(abs, off))).lstrip("+"),
                    _share(min(off)),
                    _share(max(off)),
                    sum(x < _UNDER for x in off),
                ]
            )
    header = ["", "configurations", "within 5 %", "median error", "lowest", "highest"]
    return table([*header, "more than 3 % under"], rows)


def _share(off: float | None) -> str:
    return "–" if off is None else f"{round(off, 3) + 0.0:+.1%}"


def _size(size: int) -> str:
    return f"{size / _GIB:.1f} GiB" if size >= 10 * _GIB else f"{size / _MIB:,.0f} MiB"
