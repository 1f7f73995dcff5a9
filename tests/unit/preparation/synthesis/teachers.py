"""Teacher of the tests: a server on this machine that writes what the requests ask for."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from preparation.synthesis.config import AnySynthesis
from tests.factories import write_jsonl
from tests.fake_llm_server import FakeLlmServer


class FakeTeacher:
    """Replies to the requests of all kinds.

    Attributes:
        questions: Number of calls by the text of the last message.
        fails_after: Number of replies after which every call is answered with HTTP 500.
        rating: Reply to a judge's question.
        replies: Replies by part of the question, in place of the usual ones.
    """

    def __init__(self, server: FakeLlmServer):
        self.server = server
        self.questions: Counter[str] = Counter()
        self.fails_after: int | None = None
        self.rating = "8"
        self.replies: dict[str, str] = {}
        server.reply = self._reply

    def section(self, folder: Path, kind: str, **keys: Any) -> Any:
        """Return a section of a kind, with its sources written into a folder."""
        model = {
            "kind": "openai",
            "url": self.server.url,
            "model": "teacher-1",
            "price": {"input": 1, "output": 10},
            "max_new_tokens": 100,
            "retries": 0,
            "concurrency": 2,
        } | keys.pop("teacher", {})
        document = {"teacher": model, "kind": kind, "rows": 4, "max_cost_usd": 1.0}
        return TypeAdapter(AnySynthesis).validate_python(document | sources(folder, kind) | keys)

    def _reply(self, messages: list[dict[str, Any]]) -> tuple[int, str]:
        question = messages[-1]["content"]
        if self.fails_after is not None and self.questions.total() >= self.fails_after:
            return 500, "down"
        self.questions[question] += 1
        for part, reply in self.replies.items():
            if part in question:
                return 200, reply
        return 200, _usual_reply(question, self.questions.total(), self.rating)


def _usual_reply(question: str, number: int, rating: str) -> str:
    if "new tasks of the same kind" in question:
        words = ["alpha beta gamma delta", "epsilon zeta eta theta", "iota kappa lambda mu"]
        return "\n".join(f"<task>{word} {_letters(question)}</task>" for word in words)
    if "<passage>" in question and "questions that a reader" in question:
        passage = question.split("<passage>\n")[1].split("\n</passage>")[0]
        sentence = passage.split(".")[0]
        return "\n".join(
            f"<item><question>Question {n} on {sentence}?</question><answer>{sentence}.</answer>"
            f"<quote>{quote}</quote></item>"
            for n, quote in enumerate([sentence, "this sentence is made up", sentence])
        )
    if "<message>" in question:
        message = question.split("<message>\n")[1].split("\n</message>")[0]
        return (
            f"<paraphrase>Please could you kindly tell me: {message}</paraphrase>"
            f"<paraphrase>{message}</paraphrase>"
        )
    if "<original>" in question:
        original = question.split("<original>\n")[1].split("\n</original>")[0]
        return f"<task>{original} Explain each step.</task>"
    if "SAME or DIFFERENT" in question:
        return "DIFFERENT"
    if "Reply with the number alone" in question:
        return rating
    return f"An answer to: {question}"


def _letters(question: str) -> str:
    """Return a word that differs between questions and is the same for the same question."""
    digits = str(sum(question.encode()) % 100_000)
    return "".join("bcdfghjklm"[int(digit)] * 3 + " " for digit in digits)


def sources(folder: Path, kind: str) -> dict[str, Any]:
    """Write the sources of a kind and return their keys."""
    if kind == "from_documents":
        path = folder / "guide.txt"
        paragraphs = [
            f"Pump {n} has a valve of size {n}. It is cleaned once a week." for n in range(1, 9)
        ]
        path.write_text("\n\n".join(paragraphs))
        return {"documents": str(path), "passage_characters": 100}
    path = folder / "tasks.jsonl"
    rows = [
        {"prompt": f"How many bolts of type {n} fit into box {n + 1}?", "completion": f"{n} bolts"}
        for n in range(1, 9)
    ]
    write_jsonl(path, rows)
    return {"seeds" if kind == "self_instruct" else "prompts": str(path)}


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSON Lines file."""
    import json

    return [json.loads(line) for line in path.read_text().splitlines()]


def numbers(text: str) -> list[str]:
    """Return the numbers of a text."""
    return re.findall(r"\d+", text)
