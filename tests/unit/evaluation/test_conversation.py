"""Conversations of several turns: what is asked, what a judge reads, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.config.suite import SHIPPED, load_suite
from evaluation.config.tasks import GenerationTask
from evaluation.conversation import converse
from evaluation.items import Item, Prompt, read_items
from evaluation.models.base import GeneratedAnswers, GenerationSettings, TooLong
from evaluation.report.items import read_task_items
from evaluation.results import read_results
from temper.cli import main
from tests.factories import make_tiny_model, write_jsonl
from tests.fake_llm_server import serving
from training.errors import DataError, JobError

ROWS = [
    {"question_id": 81, "category": "writing", "turns": ["Write a poem.", "Make it shorter."]},
    {"question_id": 111, "category": "math", "turns": ["What is 2 + 2?", "And times 3?"],
     "reference": ["4", "12"]},
]  # fmt: skip
_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


class Echo:
    """Model that numbers its answers and takes at most a number of messages."""

    def __init__(self, most: int = 99):
        self.calls: list[list[Prompt]] = []
        self._most = most

    def generate(
        self, prompts: Sequence[Prompt], settings: GenerationSettings
    ) -> list[GeneratedAnswers | TooLong]:
        """Return "answer N of M" to each prompt, where N counts the messages of the prompt."""
        self.calls.append(list(prompts))
        return [
            TooLong("too long")
            if len(prompt) > self._most
            else GeneratedAnswers((f"answer to {prompt[-1]['content']}",), (False,))
            for prompt in prompts
        ]


def item(name: str, *follow_ups: str) -> Item:
    return Item(name, {}, [{"role": "user", "content": name}], follow_ups=follow_ups)


def test_each_message_follows_the_answer_to_the_one_before_it() -> None:
    model: Any = Echo()
    prompts, outcomes = converse([item("a", "b", "c"), item("x"), item("y", "z")], model, SETTINGS)
    texts = [outcome.texts[0] for outcome in outcomes if isinstance(outcome, GeneratedAnswers)]
    assert texts == ["answer to c", "answer to x", "answer to z"]
    assert [message["content"] for message in prompts[0]] == [
        "a", "answer to a", "b", "answer to b", "c",
    ]  # fmt: skip
    assert [len(call) for call in model.calls] == [3, 2, 1]


SETTINGS = GenerationSettings(8)


def test_a_conversation_that_outgrows_the_context_ends() -> None:
    model: Any = Echo(most=1)
    _, outcomes = converse([item("a", "b", "c"), item("x")], model, SETTINGS)
    assert isinstance(outcomes[0], TooLong) and isinstance(outcomes[1], GeneratedAnswers)
    assert [len(call) for call in model.calls] == [2, 1]


@pytest.fixture
def mt_bench(tmp_path: Path) -> Path:
    """Shipped suite with short answers."""
    write_jsonl(tmp_path / "mt_bench_questions.jsonl", ROWS)
    document = yaml.safe_load((SHIPPED / "mt_bench.yaml").read_text("utf-8"))
    for task in document["tasks"]:
        task["max_new_tokens"] = 8
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def test_mt_bench_is_read_as_published(mt_bench: Path) -> None:
    first, second = load_suite(mt_bench).tasks
    assert [i.prompt for i in read_items(first)] == [
        [{"role": "user", "content": row["turns"][0]}] for row in ROWS
    ]
    items = read_items(second)
    assert [i.follow_ups for i in items] == [("Make it shorter.",), ("And times 3?",)]
    assert [i.targets for i in items] == [(), ("12",)]


def test_the_judge_reads_the_conversation_and_the_reference(mt_bench: Path, tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    config = model / "tokenizer_config.json"
    settings = json.loads(config.read_text("utf-8")) | {"chat_template": _TEMPLATE}
    config.write_text(json.dumps(settings), encoding="utf-8")
    out = tmp_path / "out"
    with serving() as judge:
        judge.reply = lambda messages: (200, "Fine.\n[[7]]")
        document = mt_bench.read_text("utf-8").replace("http://localhost:8000/v1", judge.url)
        mt_bench.write_text(document, encoding="utf-8")
        assert main(["evaluate", str(model), str(mt_bench), "--out", str(out)]) == 0
        asked = [body["messages"][0]["content"] for _, _, body in judge.calls]
    results = read_results(out)
    assert results.tasks["second_turn"].metrics["judge_rating"].value == 7
    assert set(results.tasks["second_turn"].metrics["judge_rating"].by_group) == {"writing", "math"}
    lines = (out / "items/second_turn.jsonl").read_text("utf-8").split("\n")[:2]
    first = [
        json.loads(t) for t in (out / "items/first_turn.jsonl").read_text("utf-8").split("\n")[:2]
    ]
    for line, row, before in zip(lines, ROWS, first, strict=True):
        found = json.loads(line)
        conversation = (
            f"user: {row['turns'][0]}\n\nassistant: {before['answers'][0]}\n\n"
            f"user: {row['turns'][1]}"
        )
        assert found["prompt"] == conversation
        [question] = [text for text in asked if f"<request>\n{conversation}\n" in text]
        assert f"<answer>\n{found['answers'][0]}\n</answer>" in question
        assert ("<correct_answer>\n12\n" in question) == ("reference" in row)


def test_the_report_shows_the_conversation_of_each_model(tmp_path: Path) -> None:
    row = {
        "id": "1", "group": None, "prompt": "user: a", "prompt_tokens": 1, "target": "",
        "skipped": None, "contaminated": None, "answers": ["b"], "scores": {}, "detail": {},
    }  # fmt: skip
    for folder in ("items", "against/items"):
        (tmp_path / folder).mkdir(parents=True)
    write_jsonl(tmp_path / "items/talk.jsonl", [row])
    for prompt, detail in (("user: a", {}), ("user: x", {"conversation": "user: x"})):
        write_jsonl(tmp_path / "against/items/talk.jsonl", [{**row, "prompt": prompt}])
        [shown] = read_task_items(tmp_path, "talk", {}).items
        assert shown["prompt"] == "user: a"
        assert shown["other"]["detail"] == detail


_PAIRWISE = {
    "kind": "judge", "mode": "pairwise", "rubric": "Shorter.",
    "judge": {"kind": "openai", "url": "http://127.0.0.1:9/v1", "model": "judge"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chat": False}, "tasks.1.follow_ups: a conversation goes through the model's chat"),
        ({"samples": 2, "temperature": 1.0}, "tasks.1.samples: a conversation is continued from"),
        ({"scores": [_PAIRWISE]}, "tasks.1.scores.0: the two models have different conversations"),
    ],
)
def test_settings_that_do_not_fit_a_conversation(
    mt_bench: Path, changes: dict[str, Any], message: str
) -> None:
    document = yaml.safe_load(mt_bench.read_text("utf-8"))
    document["tasks"][1] |= changes
    mt_bench.write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(JobError) as caught:
        load_suite(mt_bench)
    assert message in str(caught.value)


def test_follow_ups_that_are_no_list_are_refused(mt_bench: Path) -> None:
    task = load_suite(mt_bench).tasks[1]
    assert isinstance(task, GenerationTask)
    with pytest.raises(DataError, match="a list of messages is needed"):
        read_items(task.model_copy(update={"follow_ups": "{{turns[0]}}"}))


def test_conversations_are_exported_nowhere(
    mt_bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "inspect"
    arguments = ["export-suite", str(mt_bench), "--to", "inspect", "--out", str(out)]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "tasks.1.follow_ups: the conversations of second_turn cannot be exported" in error
    assert "--partial exports the rest: first_turn" in error
