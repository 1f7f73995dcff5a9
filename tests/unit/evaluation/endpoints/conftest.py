"""Suites and endpoints of these tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.completions_server import CompletionsServer, serving_model
from tests.factories import write_jsonl
from training.judges import retries

WORDS = ("red", "green", "blue", "white")
CHOICE = {
    "name": "choice", "kind": "multiple_choice", "data": "rows.jsonl", "prompt": "{{q}}",
    "choices": "options", "target": "{{ 0 }}",
}  # fmt: skip
TEXT = {"name": "text", "kind": "perplexity", "data": "rows.jsonl", "text": "{{q}} {{options[0]}}."}
ANSWERS: dict[str, Any] = {
    "name": "answers", "kind": "generation", "data": "rows.jsonl", "prompt": "q",
    "target": "{{options[0]}}", "max_new_tokens": 6, "scores": [{"kind": "token_f1"}],
}  # fmt: skip


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the cache and the default results of a test to itself, and let retries be fast."""
    monkeypatch.setenv("TEMPER_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(retries, "_FIRST_WAIT_S", 0.001)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Return a suite of a multiple choice, a perplexity and a generation of four rows."""
    rows = [{"q": f"The color of number {word} is", "options": ["red", word * 2]} for word in WORDS]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump({"suite": "demo", "tasks": [CHOICE, TEXT, ANSWERS]}))
    return path


@pytest.fixture(scope="session")
def running(tiny: str) -> Iterator[CompletionsServer]:
    """Serve a small model for all tests."""
    with serving_model(tiny, "tiny-1") as served:
        yield served


@pytest.fixture
def server(running: CompletionsServer) -> CompletionsServer:
    """Return the server without calls and faults."""
    running.calls.clear()
    running.statuses.clear()
    running.alter = running.dies_after = None
    return running


def tasks_of(suite: Path, *tasks: dict[str, Any]) -> Path:
    """Write a suite of other tasks in place of the present one, and return it.

    Args:
        suite: The suite.
        tasks: Sections of its tasks.
    """
    suite.write_text(yaml.safe_dump({"suite": "demo", "tasks": list(tasks)}))
    return suite


def endpoint_file(server: CompletionsServer, **keys: Any) -> str:
    """Write the file of an endpoint into the working directory, and return its name."""
    document = {"kind": "openai", "url": server.url, "model": server.name, **keys}
    Path("endpoint.yaml").write_text(yaml.safe_dump(document))
    return "endpoint.yaml"
