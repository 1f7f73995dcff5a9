"""Chat in the terminal: streaming, commands, and feedback that `temper feedback` reads."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluation.models.base import GeneratedAnswers, GenerationSettings
from evaluation.models.transformers_model import TransformersModel
from feedback.readers import read_labels
from serving.chat.history import ChatHistory
from temper.cli import main

QUESTION = "What is int?"


def chat(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lines: list[str],
    *args: str,
) -> str:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(line + "\n" for line in lines)))
    assert main(["chat", *args, "--max-tokens", "12"]) == 0
    return capsys.readouterr().out


def evaluated(folder: str, messages: list[Any], draw: int = 0) -> str:
    """Return the answer of an evaluation with temperature 0.7 and seed 3."""
    model = TransformersModel(folder, folder, torch.device("cpu"), 1)
    settings = GenerationSettings(12, samples=draw + 1, temperature=0.7, seed=3)
    (found,) = model.generate([messages], settings)
    assert isinstance(found, GeneratedAnswers)
    return found.texts[draw]


def test_answers_are_those_of_an_evaluation_and_follow_the_conversation(
    chat_folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = evaluated(chat_folder, [{"role": "user", "content": QUESTION}])
    turns = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "Why?"},
    ]
    second = evaluated(chat_folder, turns)
    shown = chat(monkeypatch, capsys, [QUESTION, "Why?"], chat_folder, "--seed", "3")
    assert shown == f"{first}\n{second}\n"


def test_feedback_of_two_models_is_read_by_temper_feedback(
    chat_folder: str,
    adapter_folders: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    saved = tmp_path / "folder" / "saved.jsonl"
    other = adapter_folders["first"]
    lines = [
        "/save a",
        QUESTION,
        "/save b",
        "/keep b",
        "And str?",
        "/save tie",
        "/nothing",
        "/quit",
    ]
    arguments = (chat_folder, "--against", other, "--seed", "3", "--save", str(saved))
    shown = chat(monkeypatch, capsys, lines, *arguments)
    assert "/save needs two answers" in shown
    assert "there is no /nothing" in shown
    rows = [json.loads(line) for line in saved.read_text().splitlines()]
    assert [row["choice"] for row in rows] == ["b", "tie"]
    assert rows[0]["prompt"] == QUESTION
    answers = [evaluated(f, [{"role": "user", "content": QUESTION}]) for f in (chat_folder, other)]
    assert [rows[0]["answer_a"], rows[0]["answer_b"]] == answers
    assert (rows[0]["model_a"], rows[0]["model_b"]) == (chat_folder, other)
    # The conversation continues with the answer that was kept.
    assert rows[1]["prompt"][1] == {"role": "assistant", "content": answers[1]}
    labels = read_labels([saved]).labels
    assert [(label.first, label.choice) for label in labels] == [
        (answers[0], 1),
        (rows[1]["answer_a"], None),
    ]


def test_a_second_answer_of_one_model(
    chat_folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    saved = tmp_path / "saved.jsonl"
    lines = ["/again", QUESTION, "/again", "/save a", "/seed x", "/temperature 9"]
    arguments = (chat_folder, "--seed", "3", "--save", str(saved))
    shown = chat(monkeypatch, capsys, lines, *arguments)
    assert "/again needs one model and a question" in shown
    assert "a seed is a number" in shown
    assert "a temperature is from 0 to 2" in shown
    row = json.loads(saved.read_text())
    messages = [{"role": "user", "content": QUESTION}]
    drawn = [evaluated(chat_folder, messages, draw) for draw in (0, 1)]
    assert [row["answer_a"], row["answer_b"]] == drawn
    assert drawn[0] != drawn[1]


def test_what_cannot_be_answered_is_said_and_the_chat_continues(
    chat_folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = chat(monkeypatch, capsys, ["long " * 300, QUESTION], chat_folder, "--seed", "3")
    assert "this model's context is 256 tokens" in shown
    assert shown.endswith(evaluated(chat_folder, [{"role": "user", "content": QUESTION}]) + "\n")


def test_options_and_models_that_cannot_be_used(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chat", "x", "--temperature", "-1", "--seed", "-2"]) == 2
    assert capsys.readouterr().err == "--temperature -1: from 0 to 2\n--seed -2: from 0\n"
    assert main(["chat", str(tiny_model)]) == 4
    assert "has no chat template" in capsys.readouterr().err


def test_both_models_are_checked_before_one_is_loaded(
    tiny_model: Path,
    chat_folder: str,
    adapter_folders: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("serving.load.load_served_model", lambda *_: pytest.fail("it was loaded"))
    empty = shutil.copytree(
        chat_folder, tmp_path / "empty", ignore=lambda *_: ["model.safetensors"]
    )
    moved = shutil.copytree(adapter_folders["first"], tmp_path / "moved")
    config = json.loads((moved / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "/gone/base"
    (moved / "adapter_config.json").write_text(json.dumps(config))
    for other, words in (
        ("/absent/model", "the model folder /absent/model does not exist"),
        (str(empty), "has no weights"),
        (str(moved), "/gone/base, does not exist on this machine"),
        (str(tmp_path / "none.gguf"), "none.gguf cannot be read as GGUF"),
    ):
        assert main(["chat", str(tiny_model), "--against", other]) == 4
        message = capsys.readouterr().err
        assert "has no chat template" in message, "the first model's problem is named, too"
        assert words in message


def test_a_new_system_message_begins_a_new_conversation() -> None:
    conversation = ChatHistory("Be brief.")
    conversation.ask("a")
    conversation.answers.append("b")
    conversation.ask("c")
    assert [message["role"] for message in conversation.messages] == [
        *("system", "user", "assistant", "user")
    ]
    conversation.reset()
    conversation.ask("d")
    assert [message["content"] for message in conversation.messages] == ["Be brief.", "d"]
