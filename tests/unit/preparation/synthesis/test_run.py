"""Runs of a synthesis: resumed, priced, capped, filtered, and described."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from preparation.synthesis.cost import estimate
from preparation.synthesis.run import synthesize
from tests.run_commands import ROOT
from tests.unit.preparation.synthesis.teachers import FakeTeacher, rows_of
from training.errors import DataError, JobError, RunError

# Input and output tokens of every call, as the server counts them, at 1 and 10 USD per million.
CALL_USD = (100 * 1 + 10 * 10) / 1e6


def spent(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "spent.json").read_text()))


@pytest.mark.parametrize("kind", ["self_instruct", "from_documents", "paraphrase", "evolve"])
def test_an_endpoint_that_fails_half_way_is_resumed_without_paying_twice(
    teacher: FakeTeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    keys = {"rows": 5, "filter": filter_keys(teacher)}
    expected = synthesize(teacher.section(tmp_path, kind, **keys), tmp_path / "once").read_text()
    calls = set(teacher.questions)
    teacher.questions.clear()
    teacher.fails_after = len(calls) // 2
    for attempt in range(2):
        # Only the journal is kept: the replies that runs share are lost.
        monkeypatch.setenv("TEMPER_CACHE", str(tmp_path / f"cache-{attempt}"))
        if teacher.fails_after is not None:
            with pytest.raises(
                RunError, match=r"does not answer .*HTTP 500.*rerun the same command"
            ):
                synthesize(teacher.section(tmp_path, kind, **keys), tmp_path / "out")
            teacher.fails_after = None
    path = synthesize(teacher.section(tmp_path, kind, **keys), tmp_path / "out")
    assert path.read_text() == expected
    assert set(teacher.questions) == calls and set(teacher.questions.values()) == {1}
    assert spent(tmp_path / "out")["usd"] == pytest.approx(len(calls) * CALL_USD)


def test_a_killed_process_is_resumed_without_paying_twice(
    teacher: FakeTeacher, tmp_path: Path
) -> None:
    section = teacher.section(tmp_path, "evolve", rows=24, teacher={"concurrency": 1})
    code = (
        "import sys, pathlib; from pydantic import TypeAdapter;"
        "from preparation.synthesis.config import AnySynthesis;"
        "from preparation.synthesis.run import synthesize;"
        "section = TypeAdapter(AnySynthesis).validate_json(sys.argv[1]);"
        "synthesize(section, pathlib.Path(sys.argv[2]))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, section.model_dump_json(), str(tmp_path / "out")],
        cwd=ROOT,
        env={**os.environ, "TEMPER_CACHE": str(tmp_path / "lost")},
    )
    end = time.monotonic() + 60
    while teacher.questions.total() < 10 and child.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    before = teacher.questions.copy()
    rows = rows_of(synthesize(section, tmp_path / "out"))
    assert len(rows) == 24
    # The call in flight when the process was killed is the only one that can be repeated.
    repeated = [text for text in before if teacher.questions[text] > 1]
    assert len(before) >= 10 and len(repeated) <= 1


def test_a_finished_synthesis_calls_nothing_again(teacher: FakeTeacher, tmp_path: Path) -> None:
    section = teacher.section(tmp_path, "evolve")
    expected = synthesize(section, tmp_path / "out").read_text()
    calls = teacher.questions.total()
    teacher.server.reply = lambda messages: (500, "down")
    assert synthesize(section, tmp_path / "out").read_text() == expected
    assert teacher.questions.total() == calls


def test_an_estimate_above_the_limit_calls_nothing(teacher: FakeTeacher, tmp_path: Path) -> None:
    section = teacher.section(tmp_path, "paraphrase", max_cost_usd=0.0015)
    with pytest.raises(RunError, match=r"4 rows could cost 0.00\d+ USD, and synthesize.max_cost"):
        synthesize(section, tmp_path / "out")
    assert not teacher.questions


def test_the_cost_stops_before_the_limit(teacher: FakeTeacher, tmp_path: Path) -> None:
    # Half of the passages give nothing, so that more requests are needed than were estimated.
    teacher.replies["Pump"] = "nothing"
    section = teacher.section(tmp_path, "from_documents", rows=3, max_cost_usd=0.0024)
    assert estimate(section).usd < 0.0024
    with pytest.raises(RunError, match=r"could exceed synthesize.max_cost_usd \(0.0024 USD\)"):
        synthesize(section, tmp_path / "out")
    assert 0 < spent(tmp_path / "out")["usd"] < 0.0024
    assert 1 < teacher.questions.total() < 8
    calls = teacher.questions.total()
    raised = teacher.section(tmp_path, "from_documents", rows=3, max_cost_usd=0.1)
    with pytest.raises(DataError, match=r"unusable_reply 8"):
        synthesize(raised, tmp_path / "out")
    assert teacher.questions.total() == 8 > calls


def test_the_estimate_is_that_of_the_questions(teacher: FakeTeacher, tmp_path: Path) -> None:
    section = teacher.section(tmp_path, "paraphrase", rows=16, filter=filter_keys(teacher))
    expected = estimate(section)
    assert [(part.purpose, part.requests) for part in expected.parts] == [
        ("paraphrases", 8),
        ("ratings", 16),
    ]
    with pytest.raises(DataError):  # no row reaches the threshold
        teacher.rating = "1"
        synthesize(section, tmp_path / "out")
    sent = [
        body["messages"][0]["content"]
        for _, _, body in teacher.server.calls
        if "<message>" in body["messages"][0]["content"]
    ]
    assert len(sent) == 8
    assert expected.parts[0].input_tokens == pytest.approx(sum(map(len, sent)) / 3, abs=1)
    assert expected.parts[0].output_tokens == 8 * 100
    tokens = (sum(part.input_tokens for part in expected.parts), 8 * 100 + 16 * 5)
    assert expected.usd == pytest.approx((tokens[0] + 10 * tokens[1]) / 1e6)


def filter_keys(teacher: FakeTeacher, **keys: Any) -> dict[str, Any]:
    judge = {
        "kind": "openai",
        "url": teacher.server.url,
        "model": "judge-1",
        "price": {"input": 1, "output": 10},
        "max_new_tokens": 5,
        "retries": 1,
    }
    return {"judge": judge, "threshold": 7} | keys


def test_a_judge_filters_by_its_rating(teacher: FakeTeacher, tmp_path: Path) -> None:
    keys = filter_keys(teacher)
    teacher.replies["Question 0"] = "6"
    section = teacher.section(tmp_path, "from_documents", filter=keys)
    path = synthesize(section, tmp_path / "out")
    assert {row["judge_rating"] for row in rows_of(path)} == {8}
    facts = json.loads((tmp_path / "out/synthesis.json").read_text())
    assert facts["rejected"]["low_rating"] == facts["ratings"]["6"] >= 4
    assert facts["ratings"]["8"] == 4
    ratings = [text for text in teacher.questions if "Rate them from 1" in text]
    assert all("must be supported by this passage:\nPump" in text for text in ratings)


def test_a_judge_without_a_number_is_asked_again(teacher: FakeTeacher, tmp_path: Path) -> None:
    teacher.rating = teacher.replies["whole number"] = "good"
    section = teacher.section(tmp_path, "paraphrase", filter=filter_keys(teacher))
    with pytest.raises(DataError, match="no_rating 8"):
        synthesize(section, tmp_path / "out")
    assert teacher.questions["Reply with a whole number from 1 to 10, and with nothing else."] == 8


def test_the_card_states_what_wrote_the_data(teacher: FakeTeacher, tmp_path: Path) -> None:
    section = teacher.section(tmp_path, "evolve", filter=filter_keys(teacher))
    synthesize(section, tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    assert "All 4 rows were written by the model `teacher-1`" in card
    assert "not stated. Find out whether the terms" in card
    assert "Evol-Instruct (https://arxiv.org/abs/2304.12244)" in card
    assert "Ratings by `judge-1`: 8: 4" in card
    cost = spent(tmp_path / "out")["usd"]
    assert cost == pytest.approx(16 * CALL_USD) and f"Cost: {cost:.4f} USD" in card
    facts = json.loads((tmp_path / "out/synthesis.json").read_text())
    assert facts["requests"] == 16 and facts["requests_digest"][:16] in card
    stated = teacher.section(tmp_path, "evolve", teacher_terms="Apache-2.0")
    synthesize(stated, tmp_path / "stated")
    assert "of the teacher: Apache-2.0\n" in (tmp_path / "stated/README.md").read_text()


def test_all_problems_are_named_at_once(teacher: FakeTeacher, tmp_path: Path) -> None:
    section = teacher.section(
        tmp_path,
        "evolve",
        prompts="no/such.jsonl",
        max_cost_usd=None,
        filter={"judge": {"kind": "local"}, "threshold": 11},
    )
    with pytest.raises(JobError) as caught:
        synthesize(section, tmp_path / "out")
    assert [problem.path for problem in caught.value.problems] == [
        "synthesize.prompts",
        "synthesize.max_cost_usd",
        "synthesize.filter.judge.source",
        "synthesize.filter.threshold",
    ]
    priceless = teacher.section(tmp_path, "evolve", teacher={"price": None}, max_cost_usd=None)
    with pytest.raises(JobError, match=r"teacher.price: the price of an endpoint must be known"):
        synthesize(priceless, tmp_path / "out")
    free = teacher.section(
        tmp_path, "evolve", teacher={"price": {"input": 0, "output": 0}}, max_cost_usd=None
    )
    synthesize(free, tmp_path / "out")
    assert spent(tmp_path / "out")["usd"] == 0


def test_a_folder_has_one_writer(teacher: FakeTeacher, tmp_path: Path) -> None:
    section = teacher.section(tmp_path, "paraphrase")
    errors: list[str] = []

    def reply(messages: list[dict[str, Any]]) -> tuple[int, str]:
        try:
            synthesize(section, tmp_path / "out")
        except RunError as error:
            errors.append(str(error))
        return 200, "<paraphrase>Which number of bolts?</paraphrase>"

    teacher.server.reply = reply
    with pytest.raises(DataError):
        synthesize(section, tmp_path / "out")
    assert errors and all("another process writes this synthesis" in error for error in errors)


def test_a_local_teacher_is_recorded_and_not_loaded_again(
    teacher: FakeTeacher, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.judges.local_generator import LocalGenerator

    model = shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    config["max_position_embeddings"] = 1024  # rotary: the weights do not depend on it
    (model / "config.json").write_text(json.dumps(config))
    local = {"kind": "local", "source": str(model), "max_new_tokens": 4, "batch_size": 3}
    section = teacher.section(tmp_path, "paraphrase", max_cost_usd=None)
    section = section.model_validate(section.model_dump() | {"teacher": local})
    with pytest.raises(DataError, match="no row was accepted"):
        synthesize(section, tmp_path / "out")
    lines = (tmp_path / "out/journal.jsonl").read_text().splitlines()
    assert len(lines) == 8
    monkeypatch.setattr(LocalGenerator, "load", None)
    with pytest.raises(DataError, match="no row was accepted"):
        synthesize(section, tmp_path / "out")
    assert not teacher.questions
