"""A teacher writes, a student learns: at an endpoint, here, stopped half-way, and for a price."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.factories import docstring_pairs, write_jsonl
from tests.fake_llm_server import FakeLlmServer, serving
from tests.run_commands import Run, changed, read_jsonl, train_here
from training.config.load import parse_job
from training.errors import DataError, JobError, ModelError, RunError
from training.judges import retries
from training.methods.common import text_teacher

PROMPTS = 90


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLlmServer]:
    monkeypatch.setattr(retries, "_FIRST_WAIT_S", 0.001)
    with serving() as found:
        found.reply = knowing
        yield found


ANSWERS = {row["prompt"]: row["completion"] for row in docstring_pairs(PROMPTS)}


def knowing(said: list[dict[str, Any]]) -> tuple[int, str]:
    """Answer as a model that knows the library would."""
    return 200, ANSWERS[said[-1]["content"]]


@pytest.fixture
def job(tiny_model: Path, endpoint: FakeLlmServer, tmp_path: Path) -> dict[str, Any]:
    rows = [{"prompt": prompt} for prompt in ANSWERS]
    return {
        "name": "write",
        "model": {"source": str(tiny_model)},
        "data": {"train": str(write_jsonl(tmp_path / "prompts.jsonl", rows)), "max_length": 96},
        "method": {
            "kind": "distill_text",
            "teacher": {"kind": "openai", "url": endpoint.url, "model": "m", "retries": 0},
        },
        "tracking": {"mlflow": False},
    }


def report(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.path / "written.json").read_text())
    return found


def test_answers_are_rows_to_learn_from(
    job: dict[str, Any], endpoint: FakeLlmServer, tmp_path: Path
) -> None:
    run = train_here(changed(job, method={"system": "Be brief."}), tmp_path / "run")
    rows = read_jsonl(run.path / "rows.jsonl")
    assert {row["prompt"]: row["completion"] for row in rows} == ANSWERS
    assert report(run)["spent"]["calls"] == PROMPTS
    for _, _, body in endpoint.calls:
        assert body["messages"][0] == {"role": "system", "content": "Be brief."}


def test_conversations_stay_conversations(
    job: dict[str, Any], endpoint: FakeLlmServer, tmp_path: Path
) -> None:
    prompt = [{"role": "system", "content": "Rhyme."}, {"role": "user", "content": "Go on."}]
    source = write_jsonl(tmp_path / "talk.jsonl", [{"prompt": prompt}])
    endpoint.reply = lambda said: (200, "And so.")
    model = {**job["model"], "chat_template": "chatml"}
    talk = changed(job, model=model, data={"train": str(source)}, method={"system": "Be brief."})
    (row,) = read_jsonl(train_here(talk, tmp_path / "run").path / "rows.jsonl")
    assert row == {"prompt": prompt, "completion": [{"role": "assistant", "content": "And so."}]}
    ((_, _, body),) = endpoint.calls
    assert body["messages"][0] == {"role": "system", "content": "Be brief.\n\nRhyme."}


def test_no_prompt_is_asked_twice(
    job: dict[str, Any], endpoint: FakeLlmServer, tmp_path: Path
) -> None:
    endpoint.reply = lambda said: knowing(said) if len(endpoint.calls) <= 70 else (500, "down")
    one_by_one = changed(job, method={"teacher": {**job["method"]["teacher"], "concurrency": 1}})
    with pytest.raises(RunError, match=r"the teacher at .* does not answer .*is cached"):
        train_here(one_by_one, tmp_path / "run")
    assert len(read_jsonl(tmp_path / "run/answered.jsonl")) == 64
    endpoint.reply = knowing
    run = train_here(one_by_one, tmp_path / "run")
    assert [row["prompt"] for row in read_jsonl(run.path / "rows.jsonl")] == list(ANSWERS)
    # The one that failed is asked again.
    assert len(endpoint.calls) == PROMPTS + 1
    # Another run of the same teacher and prompts asks nothing.
    again = train_here(one_by_one, tmp_path / "again")
    assert len(endpoint.calls) == PROMPTS + 1
    assert read_jsonl(again.path / "rows.jsonl") == read_jsonl(run.path / "rows.jsonl")


def test_it_is_priced_before_anything_is_asked(
    job: dict[str, Any], endpoint: FakeLlmServer, tmp_path: Path
) -> None:
    priced = {**job["method"]["teacher"], "price": {"input": 10, "output": 100}}
    dear = changed(job, method={"teacher": priced}, resources={"max_cost": "0.01 USD"})
    with pytest.raises(RunError, match=r"the teacher could cost .* resources.max_cost is 0.01 USD"):
        train_here(dear, tmp_path / "run")
    assert endpoint.calls == []
    rich = changed(dear, resources={"max_cost": "10 USD"})
    spent = report(train_here(rich, tmp_path / "rich"))["spent"]
    assert spent["usd"] == pytest.approx(PROMPTS * (100 * 10 + 10 * 100) / 1e6)
    # Cached answers cost nothing, whatever the budget.
    train_here(dear, tmp_path / "known")


def test_answers_that_were_cut_are_left_out(
    job: dict[str, Any], endpoint: FakeLlmServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.finish_reason = lambda said: "length" if "str" in said[-1]["content"] else "stop"
    run = train_here(job, tmp_path / "run")
    cut = [prompt for prompt in ANSWERS if "str" in prompt]
    assert cut
    assert report(run)["dropped"] == {"truncated at 512 tokens": len(cut)}
    # Known from the cache, they are still known to be cut.
    calls = len(endpoint.calls)
    assert report(train_here(job, tmp_path / "again"))["rows"] == PROMPTS - len(cut)
    kept = train_here(changed(job, method={"keep_truncated": True}), tmp_path / "kept")
    assert report(kept)["rows"] == PROMPTS
    assert len(endpoint.calls) == calls


@pytest.fixture(scope="module")
def student_of(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return a job that learns the answers themselves, for a teacher that knows them."""
    home = tmp_path_factory.mktemp("learned")
    rows = [{"prompt": prompt, "completion": answer} for prompt, answer in ANSWERS.items()]
    return {
        "name": "learn",
        "model": {"source": str(tiny_model)},
        "data": {
            "train": str(write_jsonl(home / "answers.jsonl", rows[:60])),
            "validation": {"source": str(write_jsonl(home / "held.jsonl", rows[60:]))},
            "max_length": 96,
            "workers": 1,
        },
        "method": {"kind": "sft"},
        "train": {"max_steps": 30, "global_batch_size": 8, "learning_rate": 1e-2},
        "tracking": {"mlflow": False},
    }


def held_out(run: Run) -> list[float]:
    measured = json.loads((run.path / "evaluation.json").read_text())
    return [measured[when]["validation"]["loss"] for when in ("before", "after")]


def test_a_student_learns_from_a_teacher_here(
    job: dict[str, Any],
    student_of: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    teacher = train_here(student_of, tmp_path / "teacher")
    section = {"kind": "local", "source": str(teacher.path / "model"), "max_new_tokens": 24}
    section["temperature"] = 1.0
    writing = changed(job, method={"teacher": section, "keep_truncated": True})
    written = train_here(writing, tmp_path / "written")
    assert report(written)["rows"] > 0.9 * PROMPTS
    taught = train_here(
        changed(student_of, data={"train": str(written.path / "rows.jsonl")}), tmp_path / "taught"
    )
    before, after = held_out(taught)
    # Untaught, the same student stands where this one began.
    assert after < 0.95 * before

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the teacher was loaded once more")

    monkeypatch.setattr(text_teacher.LocalGenerator, "load", refuse)
    again = train_here(writing, tmp_path / "again")
    assert read_jsonl(again.path / "rows.jsonl") == read_jsonl(written.path / "rows.jsonl")


def test_without_a_source_the_model_teaches_itself(job: dict[str, Any], tmp_path: Path) -> None:
    section = {"kind": "local", "max_new_tokens": 4}
    own = changed(job, data={"limit": 5}, method={"teacher": section, "keep_truncated": True})
    run = train_here(own, tmp_path / "run")
    assert len(read_jsonl(run.path / "answered.jsonl")) == 5


def test_what_cannot_be_is_refused(
    job: dict[str, Any], endpoint: FakeLlmServer, tmp_path: Path
) -> None:
    for sections, says in (
        ({"adapter": {"kind": "lora"}}, "trains nothing"),
        ({"data": {"validation": {"split": "5%"}}}, "nothing is measured"),
    ):
        with pytest.raises(JobError, match=says):
            parse_job(changed(job, **sections), "job.yaml")
    nowhere = changed(job, method={"teacher": {"kind": "local", "source": "nowhere/at/all"}})
    with pytest.raises(ModelError, match="folder nowhere/at/all does not exist"):
        train_here(nowhere, tmp_path / "nowhere")
    endpoint.reply = lambda said: (200, " ")
    with pytest.raises(
        DataError, match=r"none of 90 prompts gave a row \(the teacher's answer was"
    ):
        train_here(job, tmp_path / "silent")
