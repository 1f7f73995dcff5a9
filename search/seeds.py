"""Noise of the result: the best trial and the job as written, trained again with other seeds."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass

from scipy.stats import t as student_t

from search.config import Value
from training.config import Job, Pipeline


@dataclass(frozen=True)
class SeedResult:
    """Values of the objective over seeds.

    Attributes:
        best: Values of the best trial's settings, its first seed first.
        baseline: Values of the job as written; empty if it is not within the space.
    """

    best: tuple[float, ...]
    baseline: tuple[float, ...] = ()

    @property
    def spread(self) -> float | None:
        """Standard deviation of the best settings over seeds; None for one seed."""
        return statistics.stdev(self.best) if len(self.best) > 1 else None

    @property
    def fresh(self) -> float | None:
        """Mean over the seeds that did not choose the trial; None if there are none.

        The value that chose it is the least of many, and too good on average.
        """
        return statistics.fmean(self.best[1:]) if len(self.best) > 1 else None

    @property
    def difference(self) -> tuple[float, float, float] | None:
        """Best less baseline over the fresh seeds, with its 95 % t interval; None for under two."""
        pairs = list(zip(self.best[1:], self.baseline[1:], strict=False))
        if len(pairs) < 2:
            return None
        differences = [best - baseline for best, baseline in pairs]
        mean = statistics.fmean(differences)
        quantile = float(student_t.ppf(0.975, len(pairs) - 1))
        half = quantile * statistics.stdev(differences) / len(pairs) ** 0.5
        return mean, mean - half, mean + half

    def document(self) -> dict[str, object]:
        """Return the values as JSON."""
        return {**asdict(self), "spread": self.spread, "fresh": self.fresh}


def seed_values(job: Job | Pipeline, offset: int) -> dict[str, Value]:
    """Return the keys that give a job another seed in every stage.

    Args:
        job: The job.
        offset: What is added to its own seeds.
    """
    if isinstance(job, Pipeline):
        return {
            f"stages.{index}.train.seed": stage.train.seed + offset
            for index, stage in enumerate(job.stages)
        }
    return {"train.seed": job.train.seed + offset}
