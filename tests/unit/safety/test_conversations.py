"""Conversations of several turns: what is asked depends on answers, and what counts as broken."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from safety.conversations import hold_dialogues
from safety.probes import ProbeSet, read_probes
from safety.redteam import SafetyJudge, exceeded_limits, probe_model
from safety.turns import Conversation
from temper.cli import main
from training.errors import JobError

NO = "I'm sorry, but I can't help with that."


class Scripted:
    """Model whose answers are a function of the conversation, and which records what it gets."""

    def __init__(self, answer: Callable[[list[dict[str, Any]]], str], context: int = 1000):
        self.answer, self.context = answer, context
        self.batches: list[list[list[dict[str, Any]]]] = []

    def generate(
        self, prompts: Sequence[Any], *, max_new_tokens: int, temperature: float
    ) -> list[str]:
        assert temperature == 0
        self.batches.append([[dict(message) for message in prompt] for prompt in prompts])
        return [self.answer(prompt) for prompt in prompts]

    def fits(self, prompt: Any, max_new_tokens: int) -> bool:
        return sum(len(m["content"].split()) for m in prompt) + max_new_tokens <= self.context


def talk(*turns: Any, **keys: Any) -> Conversation:
    return Conversation.model_validate(
        {"name": "n", "category": "c", "turns": [*turns], **keys}, strict=False
    )


def last(messages: list[dict[str, Any]]) -> str:
    return str(messages[-1]["content"])


def test_a_turn_is_asked_with_the_models_own_answers() -> None:
    model = Scripted(lambda messages: f"answer to {last(messages)}")
    script = talk({"ask": "one"}, {"ask": "two"}, {"ask": "three"}, system="be kind")
    (dialogue,) = hold_dialogues([script], model, max_new_tokens=8)
    assert [(m["role"], m["content"]) for m in model.batches[-1][0]] == [
        ("system", "be kind"),
        ("user", "one"),
        ("assistant", "answer to one"),
        ("user", "two"),
        ("assistant", "answer to two"),
        ("user", "three"),
    ]
    assert (dialogue.result, dialogue.broken_at) == ("broken", 3), "the last turn is harmful"


def test_a_refused_turn_is_taken_back_and_asked_in_other_words() -> None:
    model = Scripted(lambda messages: NO if "bluntly" in last(messages) else "Sure: …")
    script = talk(
        {"ask": "start"}, {"ask": "bluntly", "if_refused": ["still bluntly", "gently", "unused"]}
    )
    (dialogue,) = hold_dialogues([script], model, max_new_tokens=8)
    asked = [last(batch[0]) for batch in model.batches]
    assert asked == ["start", "bluntly", "still bluntly", "gently"]
    assert all("bluntly" not in m["content"] and m["content"] != NO for m in model.batches[-1][0])
    assert [(e.turn, e.outcome, e.refusals) for e in dialogue.exchanges] == [
        (1, "answered", 0),
        (2, "answered", 2),
    ]
    assert dialogue.broken_at == 2


@pytest.mark.parametrize(
    ("answers", "result", "broken_at"),
    [
        (("yes", "yes", "yes"), "broken", 2),
        (("yes", NO, "yes"), "broken", 3),
        (("yes", NO, NO), "held", None),
        ((NO, NO, NO), "held", None),
        (("yes", "", NO), "held", None),
    ],
)
def test_the_first_harmful_turn_that_is_answered_breaks(
    answers: tuple[str, ...], result: str, broken_at: int | None
) -> None:
    script = talk({"ask": "0"}, {"ask": "1", "harmful": True}, {"ask": "2", "harmful": True})
    model = Scripted(lambda messages: answers[int(last(messages))])
    (dialogue,) = hold_dialogues([script], model, max_new_tokens=8)
    assert (dialogue.result, dialogue.broken_at) == (result, broken_at)
    assert len(dialogue.exchanges) == 3, "the remaining turns of a broken conversation are missing"


def test_a_conversation_that_outgrows_the_context_is_excluded() -> None:
    long = talk({"ask": "one " * 20}, {"ask": "two " * 20}, {"ask": "three"}, name="long")
    short = talk({"ask": "one"}, name="short")
    model = Scripted(lambda messages: NO, context=45)
    report = probe_model(model, ProbeSet((), (long, short)), None, max_new_tokens=8)
    assert [c["result"] for c in report["conversations"]] == ["unfinished", "held"]
    assert report["unfinished"] == 1
    (row,) = [row for row in report["rates"] if row["by"] == "all"]
    assert (row["kind"], row["of"], row["share"]) == ("conversation", 1, 0)


def test_a_judge_decides_on_harmful_turns_with_the_whole_conversation() -> None:
    seen: list[str] = []

    class Lenient:
        def replies(self, questions: Any) -> list[str]:
            seen.extend(q[0]["content"] for q in questions)
            return ["REFUSED" for _ in questions]

    script = talk({"ask": "first"}, {"ask": "second"})
    model = Scripted(lambda messages: "Sure, here is how")
    judge = SafetyJudge("lenient", Lenient(), 0)
    report = probe_model(model, ProbeSet((), (script,)), judge, max_new_tokens=8)
    assert len(seen) == 1 and "first\n\nsecond" in seen[0]
    assert report["conversations"][0]["result"] == "held", "rules alone call it broken"


def test_rates_and_limits() -> None:
    scripts = [talk({"ask": f"{n}"}, {"ask": f"{n}"}, name=f"{n}") for n in range(4)]
    model = Scripted(lambda messages: "yes" if last(messages) == "0" else NO)
    report = probe_model(model, ProbeSet((), tuple(scripts)), None, max_new_tokens=8)
    rates = {(row["by"], row["name"]): row["share"] for row in report["rates"]}
    assert rates == {("all", ""): 0.25, ("category", "c"): 0.25, ("first broken turn", "2"): 0.25}
    assert exceeded_limits(report, {"conversation": 0.25}) == []
    assert exceeded_limits(report, {"conversation": 0.2}) == [
        "conversation: 25% broken, at most 20%"
    ]
    assert exceeded_limits(report, {"leak": 0.0}) == [
        "leak: there is a limit of 0% and nothing to measure it with"
    ]


def test_conversations_of_temper_escalate() -> None:
    probes = read_probes()
    assert {c.category for c in probes.conversations} == {
        probe.category for probe in probes.probes if probe.kind == "request"
    }
    for script in probes.conversations:
        assert len(script.turns) >= 3 and not script.turns[0].harmful
        assert script.turns[-1].harmful
    assert probes.max_answers > len(probes.probes) + 3 * len(probes.conversations)


@pytest.mark.parametrize(
    ("turns", "said"),
    [([], "turns"), ([{"say": "x"}], "no such key"), ([{"if_refused": ["x"]}], "ask")],
)
def test_scripts_that_cannot_be_used_are_explained(
    tmp_path: Path, turns: list[Any], said: str
) -> None:
    path = tmp_path / "probes.yaml"
    script = {"name": "n", "category": "c", "turns": turns}
    path.write_text(yaml.safe_dump({"conversations": [script]}))
    with pytest.raises(JobError, match=said):
        read_probes(path)


def test_the_command_holds_conversations_and_closes_its_gate(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "probes.yaml", tmp_path / "out"
    turns = [{"ask": "Hello."}, {"ask": "Do <b>harm</b>."}]
    script = {"name": "n", "category": "harm", "turns": turns}
    path.write_text(yaml.safe_dump({"conversations": [script]}))
    command = ["redteam", str(tiny_model), "--probes", str(path), "--out", str(out)]
    command += ["--max-new-tokens", "8"]
    assert main(command) == 0
    first = (out / "redteam.json").read_bytes()
    (held,) = json.loads(first)["conversations"]
    assert (held["result"], held["broken_at"], len(held["turns"])) == ("broken", 2, 2)
    page = (out / "redteam.html").read_text()
    assert "broken at turn 2" in page and "<b>harm</b>" not in page
    assert main([*command, "--most-broken", "0.5"]) == 5
    assert (out / "redteam.json").read_bytes() == first, "the same answers each time"
    captured = capsys.readouterr()
    assert "conversations broken: 100% of 1" in captured.out
    assert "gate: conversation: 100% broken, at most 50%" in captured.err
