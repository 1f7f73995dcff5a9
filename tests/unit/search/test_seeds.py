"""Values over seeds: the interval, and the seeds themselves."""

from __future__ import annotations

import pytest
import yaml
from scipy import stats

from search.seeds import SeedResult, seed_values
from tests.run_commands import ROOT
from training.config.load import parse_job


def test_the_interval_is_that_of_the_paired_t_test() -> None:
    best, baseline = (1.0, 1.4, 1.2, 1.9), (1.3, 1.9, 1.5, 2.6)
    expected = stats.ttest_rel(best[1:], baseline[1:]).confidence_interval(0.95)
    difference = SeedResult(best, baseline).difference
    assert difference is not None
    assert difference == pytest.approx((-0.5, expected.low, expected.high))


def test_without_other_seeds_nothing_is_claimed() -> None:
    alone = SeedResult((1.0,), (1.3,))
    assert (alone.spread, alone.fresh, alone.difference) == (None, None, None)
    assert SeedResult((1.0, 1.2), (1.3, 1.5)).difference is None


def test_every_stage_gets_another_seed() -> None:
    job = parse_job(yaml.safe_load((ROOT / "jobs/quickstart.yaml").read_text()), "quickstart")
    assert seed_values(job, 2) == {"stages.0.train.seed": 44, "stages.1.train.seed": 44}
