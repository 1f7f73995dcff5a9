"""Limits of the providers: each has a source, and only those limits refuse a job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from catalog.managed_training import ManagedMethod, providers
from launch.managed.data_files import convert_data
from planning.managed.run import read_managed_run
from tests.factories import write_jsonl
from training.config import load_job
from training.errors import JobError

METHODS = [
    pytest.param(method, id=f"{provider.name}-{name}")
    for provider in providers().values()
    for name, method in provider.methods.items()
]


@pytest.mark.parametrize("method", METHODS)
def test_every_figure_has_a_source(method: ManagedMethod) -> None:
    limited = (method.min_rows, method.max_rows, method.max_validation_rows) != (1, None, None)
    assert method.rows_source.startswith("https://") == limited
    ranges = [(one.min, one.max, one.default) for one in method.keys.values()]
    documented = any(figure is not None for figures in ranges for figure in figures)
    assert method.ranges_source.startswith("https://") == documented


def test_held_out_rows_above_the_documented_number(
    job: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [{"prompt": f"{n}?", "completion": f"{n}."} for n in range(1001)]
    held_out = write_jsonl(tmp_path / "held_out.jsonl", rows)
    path = job(
        "meta-llama/Llama-3.1-8B-Instruct",
        train__global_batch_size=1,
        data__validation={"source": str(held_out)},
    )
    run = read_managed_run(load_job(path), "bedrock-customization")
    with pytest.raises(JobError, match=r"1,000 held-out rows at most \(https://github.com"):
        convert_data(run, "job.yaml")


def test_value_without_a_documented_range_is_sent(job: Callable[..., Path]) -> None:
    path = job("bedrock:amazon.nova-2-lite-v1:0", train__num_train_epochs=7)
    run = read_managed_run(load_job(path), "bedrock-customization")
    assert run.parameters["epochCount"] == 7
    path = job("bedrock:amazon.nova-micro-v1:0", train__num_train_epochs=7)
    with pytest.raises(JobError, match="takes 1 to 5"):
        read_managed_run(load_job(path), "bedrock-customization")
