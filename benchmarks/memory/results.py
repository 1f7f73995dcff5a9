"""The figures of one configuration, and the table of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.readme_tables import circumstances, table

_MIB, _GIB = 2**20, 2**30
_CLOSE, _UNDER = 0.05, -0.03


@dataclass(frozen=True)
class MemoryResult:
    """What was measured, and what was said of it; bytes on the fullest device.

    Attributes:
        group: Under which it is listed.
        name: What is special about it.
        measured: At the fullest instant.
        plan: Temper's plan.
        deepspeed: DeepSpeed's estimator, where it has one.
        accelerate: Accelerate's.
        rule: The rule of thumb.
        error: Why it could not be measured.
    """

    group: str
    name: str
    measured: int = 0
    plan: int = 0
    deepspeed: int | None = None
    accelerate: int = 0
    rule: int = 0
    error: str = ""

    def off(self, figure: int | None) -> float | None:
        """How far a figure is from what was measured, as a share of it."""
        return None if figure is None else figure / self.measured - 1

    def line(self) -> str:
        """Say it in a line."""
        if self.error:
            return f"{self.group}: {self.name}: {self.error}"
        return (
            f"{self.group}: {self.name}: measured {_size(self.measured)}, "
            f"plan {_size(self.plan)} ({_share(self.off(self.plan))})"
        )


def section(outcomes: Sequence[MemoryResult]) -> str:
    """The section of the results page."""
    trained = [one for one in outcomes if one.group != "simulated"]
    simulated = [one for one in outcomes if one.group == "simulated"]
    failed = _failed(outcomes)
    words = "\n".join(["", "Not measured:", "", *failed]) if failed else ""
    return f"""## Memory: the plan against the allocator

Llamas of 10, 33 and 83 million weights (and a Qwen3 of 11), trained by Temper for two steps on a
CPU, rows of 256 tokens unless said otherwise, every configuration in processes of its own. Measured
is the most bytes that tensors held between the end of the first step and the end of training, as
PyTorch's allocator counts them, on the fullest process. The plan's figure is that of `make plan`
without what lies around the tensors (runtime, fragmentation). {_PEERS}
{circumstances(("torch", "transformers", "trl", "deepspeed", "accelerate"))} `make bench-memory`.

{_both(trained)}

### Simulated: 1 to 70 billion weights

The same step on tensors that have a shape and no numbers (PyTorch's `FakeTensorMode`), with the
model's own code and this project's head and adapters; a dispatch mode counts what is alive.
{_SIMULATED}

{_both(simulated)}
{words}
"""


_PEERS = """Beside it what others say: DeepSpeed's `estimate_zero2/3_model_states_mem_needs`,
`accelerate estimate-memory` (training with Adam), and the rule of thumb "weights + gradients +
2 × optimizer states" of what is trained. None of them counts activations."""
_SIMULATED = """Several devices are FSDP2's shards in a group of which one rank is there."""


def _both(outcomes: Sequence[MemoryResult]) -> str:
    if all(one.error for one in outcomes):
        return "None was measured."
    return f"{_summary(outcomes)}\n\n{_table(outcomes)}"


def _failed(outcomes: Sequence[MemoryResult]) -> list[str]:
    """A line for each reason why something could not be measured."""
    names: dict[str, list[str]] = {}
    for one in outcomes:
        if one.error:
            names.setdefault(one.error, []).append(f"{one.group}: {one.name}")
    return [f"- {error}: {'; '.join(which)}" for error, which in names.items()]


def _table(outcomes: Sequence[MemoryResult]) -> str:
    header = ["", "", "measured", "plan", "off", "DeepSpeed", "Accelerate", "rule of thumb"]
    rows = [
        [
            one.group,
            one.name,
            _size(one.measured),
            _size(one.plan),
            f"**{_share(one.off(one.plan))}**",
            _share(one.off(one.deepspeed)),
            _share(one.off(one.accelerate)),
            _share(one.off(one.rule)),
        ]
        for one in outcomes
        if not one.error
    ]
    return table(header, rows)


def _summary(outcomes: Sequence[MemoryResult]) -> str:
    known = [one for one in outcomes if not one.error]
    says: list[tuple[str, Callable[[MemoryResult], int | None]]] = [
        ("Temper's plan", lambda one: one.plan),
        ("DeepSpeed's estimators", lambda one: one.deepspeed),
        ("accelerate estimate-memory", lambda one: one.accelerate),
        ("rule of thumb", lambda one: one.rule),
    ]
    rows = []
    for name, figure in says:
        off = [x for one in known if (x := one.off(figure(one))) is not None]
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
