"""Constitutional AI: from prompts and principles to rows, and in several stages to a model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.factories import docstring_pairs, write_jsonl
from tests.fake_llm_server import FakeLlmServer, serving
from tests.run_commands import Run, changed, read_jsonl, train_by_command, train_here
from training.config import Pipeline
from training.config.load import parse_job
from training.errors import DataError, JobError, RunError
from training.judges import retries
from training.run_folder import RunFolder
from training.supervisor import StageContext

PRINCIPLES = [
    {"name": "short", "text": "An answer is short."},
    {"name": "kind", "text": "An answer is kind."},
    "An answer is true.",
]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLlmServer]:
    monkeypatch.setattr(retries, "_FIRST_WAIT_S", 0.001)
    with serving() as found:
        found.reply = sensible
        yield found


def sensible(said: list[dict[str, Any]]) -> tuple[int, str]:
    """Criticise, revise, and prefer the shorter answer, as a judge would."""
    asked = said[-1]["content"]
    if "Reply with A or B" in asked:
        first, second = re.findall(r"Answer [AB]:\n(.*?)\n\n", asked, re.DOTALL)
        return 200, f"Answer {'A' if (len(first), first) < (len(second), second) else 'B'}."
    if "<answer>" in asked:
        return 200, "Certainly. <answer>It is a short and kind answer.</answer>"
    return 200, "It could be kinder."


@pytest.fixture
def job(tiny_model: Path, endpoint: FakeLlmServer, tmp_path: Path) -> dict[str, Any]:
    prompts = [{"prompt": row["prompt"]} for row in docstring_pairs(40)]
    judge = {"kind": "openai", "url": endpoint.url, "model": "m", "retries": 1}
    return {
        "name": "cai",
        "model": {"source": str(tiny_model)},
        "data": {"train": str(write_jsonl(tmp_path / "prompts.jsonl", prompts))},
        "method": {
            "kind": "constitutional",
            "writes": "revisions",
            "constitution": PRINCIPLES,
            "judge": judge,
            "rollout": {"max_new_tokens": 8},
        },
        "tracking": {"mlflow": False},
    }


def preferring(job: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return changed(job, method={"writes": "preferences", **keys})


def report(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.path / "constitution.json").read_text())
    return found


def test_revisions_are_rows_to_learn_from(job: dict[str, Any], tmp_path: Path) -> None:
    run = train_here(job, tmp_path / "run")
    rows = read_jsonl(run.path / "rows.jsonl")
    assert [row["prompt"] for row in rows] == [row["prompt"] for row in docstring_pairs(40)]
    assert {row["completion"] for row in rows} == {"It is a short and kind answer."}
    found = report(run)
    assert (found["prompts"], found["rows"], found["dropped"]) == (40, 40, {})
    assert set(found["principles"]) == {"short", "kind", "principle 3"}
    assert found["asked"] == {"asked": 80, "again": 0, "nonsense": 0}


def test_each_turn_takes_another_principle(
    job: dict[str, Any], endpoint: FakeLlmServer, tmp_path: Path
) -> None:
    twice = changed(job, method={"turns": 2}, data={"limit": 6})
    run = train_here(twice, tmp_path / "run")
    for line in read_jsonl(run.path / "judged.jsonl"):
        assert len(set(line["principles"])) == 2
    second = [body for _, _, body in endpoint.calls if "kind answer" in str(body["messages"][0])]
    assert second, "the second turn criticises the first one's revision"


def test_preferences_are_those_that_the_order_does_not_decide(
    job: dict[str, Any], endpoint: FakeLlmServer, tmp_path: Path
) -> None:
    run = train_here(preferring(job), tmp_path / "run")
    rows, found = read_jsonl(run.path / "rows.jsonl"), report(run)
    assert len(rows) > 30
    assert all(len(row["chosen"]) <= len(row["rejected"]) for row in rows)
    assert found["by_order"] == 0
    assert found["chose_first"] == pytest.approx(0.5)


def test_pairs_that_the_order_decides_are_dropped_and_counted(
    job: dict[str, Any], endpoint: FakeLlmServer, tmp_path: Path
) -> None:
    endpoint.reply = lambda said: (200, "A")
    with pytest.raises(DataError, match=r"none of 40 prompts.*chose by order: \d\d"):
        train_here(preferring(job), tmp_path / "run")
    found = json.loads((tmp_path / "run/constitution.json").read_text())
    assert (found["by_order"], found["chose_first"]) == (1, 1)


@pytest.mark.parametrize("writes", ["revisions", "preferences"])
def test_nonsense_is_asked_again_then_dropped_and_counted(
    job: dict[str, Any], endpoint: FakeLlmServer, tmp_path: Path, writes: str
) -> None:
    def babbling(said: list[dict[str, Any]]) -> tuple[int, str]:
        about = "str.c" in said[0]["content"] and "criticis" not in said[-1]["content"]
        return (200, "Hm, A or B?") if about else sensible(said)

    endpoint.reply = babbling
    run = train_here(changed(job, method={"writes": writes}), tmp_path / "run")
    found = report(run)
    assert found["rows"] + sum(found["dropped"].values()) == 40
    assert any("no usable" in why for why in found["dropped"])
    assert found["asked"]["nonsense"] > 0
    assert found["asked"]["again"] == found["asked"]["nonsense"]


def test_an_endpoint_that_fails_half_way_is_gone_on_with(
    job: dict[str, Any], endpoint: FakeLlmServer, tmp_path: Path
) -> None:
    whole = train_here(preferring(job), tmp_path / "whole")
    calls = len(endpoint.calls)
    endpoint.calls.clear()
    judge = {**job["method"]["judge"], "model": "another", "concurrency": 1}
    document = preferring(job, judge=judge)
    endpoint.reply = lambda said: sensible(said) if len(endpoint.calls) < 70 else (500, "down")
    with pytest.raises(RunError, match="Every reply so far is cached"):
        train_here(document, tmp_path / "run")
    assert len(read_jsonl(tmp_path / "run/judged.jsonl")) == 32
    endpoint.reply = sensible
    again = train_here(document, tmp_path / "run")
    assert (again.path / "rows.jsonl").read_text() == (whole.path / "rows.jsonl").read_text()
    # Nothing was paid for twice: the calls that failed were two.
    assert len(endpoint.calls) == calls + 2


def test_it_is_priced_before_anything_is_asked(
    job: dict[str, Any], endpoint: FakeLlmServer, tmp_path: Path
) -> None:
    judge = {**job["method"]["judge"], "price": {"input": 10, "output": 100}}
    dear = changed(job, method={"judge": judge}, resources={"max_cost": "0.01 USD"})
    with pytest.raises(RunError, match=r"could cost .* USD, and resources.max_cost is 0.01 USD"):
        train_here(dear, tmp_path / "run")
    assert endpoint.calls == []


def test_prompts_that_changed_are_noticed(job: dict[str, Any], tmp_path: Path) -> None:
    train_here(job, tmp_path / "run")
    (tmp_path / "run/rows.jsonl").unlink()
    prompts = Path(job["data"]["train"])
    prompts.write_text('{"prompt": "Something else?"}\n' * 40)
    with pytest.raises(RunError, match="the data has changed"):
        train_here(job, tmp_path / "run")


def test_prompts_that_are_too_long_are_left_out(job: dict[str, Any], tmp_path: Path) -> None:
    run = train_here(changed(job, data={"max_length": 16}), tmp_path / "run")
    (why,) = report(run)["dropped"]
    assert why == "the prompt is longer than data.max_length (16)"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no principles"),
        ("principles: []", "has no principles"),
        ("rules: [be good]", "has no principles"),
        ("principles: [' ', be good]", "principles.0.text: the principle is empty"),
        ("principles: [{text: be good, colour: red}]", "colour"),
        ("principles: [", "is not YAML"),
        (None, "there is no file"),
    ],
)
def test_a_constitution_without_principles_is_refused(
    job: dict[str, Any], tmp_path: Path, text: str | None, said: str
) -> None:
    path = tmp_path / "constitution.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(JobError, match=said):
        parse_job(changed(job, method={"constitution": str(path)}), "job.yaml")


def test_a_constitution_travels_inside_the_job(job: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "constitution.yaml"
    path.write_text(yaml.safe_dump(PRINCIPLES))
    inside = changed(job, method={"constitution": str(path)})
    assert parse_job(inside, "job.yaml") == parse_job(job, "job.yaml")


def staged(job: dict[str, Any]) -> dict[str, Any]:
    """Return the job of four stages, from prompts to an aligned model."""
    learning = {"global_batch_size": 8, "micro_batch_size": 8, "learning_rate": 1e-3}
    inherited = {"data": {"max_length": 96, "workers": 1}, "tracking": {"mlflow": False}}
    plain = {key: job[key] for key in ("data", "method", "tracking")}
    return {
        "name": "cai",
        "stages": [
            {"name": "revise", "model": {**job["model"], "chat_template": "chatml"}, **plain},
            changed(
                inherited,
                name="instruct",
                data={"train": "stage:revise"},
                method={"kind": "sft"},
                train=learning,
            ),
            {"name": "compare", **preferring(plain)},
            changed(
                inherited,
                name="align",
                data={"train": "stage:compare", "validation": {"split": "20%"}},
                method={"kind": "dpo"},
                adapter={"kind": "lora", "r": 4, "alpha": 8},
                train=learning,
            ),
        ],
    }


def test_stages_start_from_what_those_before_left(job: dict[str, Any], tmp_path: Path) -> None:
    """The four stages in this process, which is where the command's supervisor would start them."""
    pipeline = parse_job(staged(job), "job.yaml")
    assert isinstance(pipeline, Pipeline)
    past, runs = StageContext(pipeline.name), {}
    for stage in pipeline.stages:
        document: Any = past.document(stage)
        runs[stage.name] = train_here(document, tmp_path / stage.name)
        done = RunFolder(tmp_path / stage.name)
        past.add(stage.name, parse_job(document, "stage"), done)
    assert past.trained == tmp_path / "align/model"
    taught = yaml.safe_load((tmp_path / "instruct/job.yaml").read_text())
    # The next stage loads the model with the settings of the stage that wrote it.
    assert taught["model"]["source"] == job["model"]["source"]
    assert taught["model"]["chat_template"] == "chatml"
    assert taught["data"]["train"][0]["source"] == str(tmp_path / "revise/rows.jsonl")
    assert runs["instruct"].losses[-1] < runs["instruct"].losses[0]
    aligned = yaml.safe_load((tmp_path / "align/job.yaml").read_text())
    assert aligned["model"]["source"] == str(tmp_path / "instruct/model")
    measured = json.loads((tmp_path / "align/evaluation.json").read_text())
    assert measured["before"]["validation"]["loss"] == pytest.approx(0.6931, abs=1e-3)


@pytest.mark.slow
def test_one_command_trains_an_aligned_model_from_prompts(
    job: dict[str, Any], tmp_path: Path
) -> None:
    run = train_by_command(staged(job), tmp_path / "home")
    stages = sorted((run.path / "stages").iterdir())
    assert [len((s / "rows.jsonl").read_text()) > 0 for s in stages[::2]] == [True, True]
    assert (run.path / "model").resolve() == (stages[3] / "model").resolve()
    page = (run.path / "report.html").read_text()
    assert "revise" in page and "align" in page


@pytest.mark.parametrize(
    ("stage", "change", "said"),
    [
        (1, {"data": {"train": "stage:nowhere"}}, "stages.1.data.train.0.source: no earlier stage"),
        (3, {"data": {"train": "stage:instruct"}}, "writes no rows"),
        (3, {"model": {"source": "stage:revise"}}, "trains no model"),
        (0, {"adapter": {"kind": "lora"}}, "trains nothing"),
        (0, {"data": {"validation": {"split": "5%"}}}, "nothing is measured"),
    ],
)
def test_stages_that_do_not_fit_are_refused(
    job: dict[str, Any], stage: int, change: dict[str, Any], said: str
) -> None:
    document = staged(job)
    document["stages"][stage] = changed(document["stages"][stage], **change)
    with pytest.raises(JobError, match=said):
        parse_job(document, "job.yaml")


def test_a_job_without_stages_names_none(document: dict[str, Any]) -> None:
    with pytest.raises(JobError, match="names a stage, and this job has none"):
        parse_job(changed(document, data={"train": "stage:revise"}), "job.yaml")
