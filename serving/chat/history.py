"""Conversation with one or two models, and the feedback that it yields."""

from __future__ import annotations

import getpass
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from training.data.schema.rows import Message

Choice = Literal["a", "b", "tie"]


@dataclass
class ChatHistory:
    """Conversation whose last question has one or two answers.

    Attributes:
        system: System message; empty for none.
        turns: Questions and answers so far, without the last question.
        question: The last question; None before the first.
        answers: Answers to it, from model A first; of one model, two answers of its own.
        kept: Number of the answer with which the conversation continues.
    """

    system: str = ""
    turns: list[Message] = field(default_factory=list)
    question: str | None = None
    answers: list[str] = field(default_factory=list)
    kept: int = 0

    def ask(self, question: str) -> None:
        """Add a question; the kept answer to the last one becomes part of the conversation."""
        if self.question is not None and self.answers:
            answer = self.answers[self.kept]
            self.turns.append({"role": "user", "content": self.question})
            self.turns.append({"role": "assistant", "content": answer})
        self.question, self.answers, self.kept = question, [], 0

    def reset(self) -> None:
        """Start a new conversation with the same system message."""
        self.turns, self.question, self.answers, self.kept = [], None, [], 0

    @property
    def messages(self) -> list[Message]:
        """Messages that a model answers."""
        system: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, *self.turns, {"role": "user", "content": self.question or ""}]

    def feedback_row(self, choice: Choice, models: tuple[str, str]) -> dict[str, Any]:
        """Return the two answers and the choice between them, as `temper feedback` reads it.

        Args:
            choice: The better answer.
            models: Names of the models that wrote them.
        """
        alone = not self.system and not self.turns
        return {
            "prompt": self.question if alone else self.messages,
            "answer_a": self.answers[0],
            "answer_b": self.answers[1],
            "choice": choice,
            "annotator": getpass.getuser(),
            "model_a": models[0],
            "model_b": models[1],
        }


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Append a row to a JSON Lines file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
