"""A model that `temper serve` serves, evaluated through it: the results of a local evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.items import read_items
from evaluation.models.endpoint_model import EndpointModel
from evaluation.models.transformers_model import TransformersModel
from serving.load import load_served_model
from tests.unit.evaluation.endpoints.test_truth import (
    CPU,
    STORIES,
    needs_shared,
    scores,
    section_of,
    truth_suite,
)
from tests.unit.serving.running import running_server
from training.judges.base import JudgeContext


@needs_shared
@pytest.mark.slow
def test_a_served_model_is_evaluated_as_the_model_here(tmp_path: Path) -> None:
    suite = truth_suite(tmp_path)
    local = scores(suite, TransformersModel(STORIES, STORIES, CPU, 4))
    context = JudgeContext(CPU, tmp_path / "out", tmp_path / "cache", role="endpoint")
    with running_server(load_served_model("stories", STORIES, {})) as server:
        section = section_of(f"{server.url}/v1", server.served.name, tokenizer=STORIES)
        model = EndpointModel("served", section, context)
        model.prepare(suite, {task.name: read_items(task) for task in suite.tasks})
        remote = scores(suite, model)
    for name, task in local.items():
        for metric, value in task.metrics.items():
            assert remote[name].metrics[metric].value == pytest.approx(value.value, rel=1e-6)
    assert model.info.settings["context_length"] == 512
    answers = [item.answers for item in local["answers"].items]
    assert [item.answers for item in remote["answers"].items] == answers
