"""Tests of the list of models, data and files that a job names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.run_commands import changed
from training.config.load import parse_job
from training.config.locations import existing_path, locations, put


def named(document: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the value and the kind of each location of a job, by its key."""
    job = parse_job(document, "test")
    return {found.path: (found.value, found.field.kind) for found in locations(job)}


def test_locations_at_every_depth(minimal: dict[str, Any]) -> None:
    members = {"a": "runs/a", "b": {"adapters": {"c": "runs/c", "d": "stage:d"}}}
    route = {"kind": "route", "by": "centroid", "examples": {"a": "rows.jsonl"}}
    document = {
        **minimal,
        "model": {"source": "owner/model", "chat_template": "chat.jinja"},
        "data": {"train": ["a.txt", "b.txt"], "validation": "c.txt"},
        "compose": {"adapters": members, "method": route},
        "evaluate": {"samples": ["a.txt"], "forgetting": "d.txt"},
    }
    document["compose"]["adapters"]["b"]["adapters"]["d"] = "runs/d"
    assert named(document) == {
        "model.source": ("owner/model", "model"),
        "model.chat_template": ("chat.jinja", "file"),
        "data.train.0.source": ("a.txt", "data"),
        "data.train.1.source": ("b.txt", "data"),
        "data.validation.source.source": ("c.txt", "data"),
        "adapter.adapters.a": ("runs/a", "adapter"),
        "adapter.adapters.b.adapters.c": ("runs/c", "adapter"),
        "adapter.adapters.b.adapters.d": ("runs/d", "adapter"),
        "adapter.method.examples.a": ("rows.jsonl", "data"),
        "evaluate.forgetting.source": ("d.txt", "data"),
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ({"kind": "distill", "teacher": "owner/teacher"}, "method.teacher"),
        (
            {"kind": "ppo", "reward": {"kind": "model", "source": "r"}, "critic": {"source": "c"}},
            "method.critic.source",
        ),
        ({"kind": "distill_text", "teacher": {"kind": "local", "source": "t"}}, None),
    ],
)
def test_locations_of_methods(
    minimal: dict[str, Any], method: dict[str, Any], path: str | None
) -> None:
    document = {**minimal, "method": method}
    if method["kind"] != "distill":
        document["data"] = {"prompts": ["a"]}
    assert (path or "method.teacher.source") in named(document)


def test_a_folder_on_the_training_machine_is_not_uploaded(
    minimal: dict[str, Any], tmp_path: Path
) -> None:
    sharding = {"zero": 3, "offload": "nvme", "nvme_path": str(tmp_path)}
    found = named(changed(minimal, sharding=sharding))
    assert not any(key.startswith("sharding") for key in found)


def test_existing_path_and_put(tmp_path: Path) -> None:
    assert existing_path(str(tmp_path)) == tmp_path
    assert existing_path(str(tmp_path / "none")) is None
    assert existing_path("") is existing_path("a\nb") is existing_path("x" * 2000) is None
    document = {"data": {"train": [{"source": "a"}]}}
    put(document, ("data", "train", "0", "source"), "b")
    assert document == {"data": {"train": [{"source": "b"}]}}
