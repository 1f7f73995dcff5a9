"""Inputs of a job, and their paths where it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from launch.errors import LaunchError
from launch.job_inputs import (
    InputArtifact,
    RemoteEndpoint,
    collect_endpoints,
    collect_inputs,
    hub_names,
    missing_channels,
    rewrite_paths,
)
from training.config.load import parse_job


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "model" / "sub").mkdir(parents=True)
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "sub" / "weights.bin").write_bytes(b"0" * 100)
    (tmp_path / "model" / ".cache").mkdir()
    (tmp_path / "model" / ".cache" / "lock").write_text("")
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "held.jsonl").write_text('{"text": "b"}\n')
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    return tmp_path


def job(here: Path, **sections: Any) -> Any:
    document = {
        "name": "a",
        "model": {"source": str(here / "model"), "chat_template": str(here / "chat.jinja")},
        "data": {"train": str(here / "rows.jsonl"), "validation": str(here / "held.jsonl")},
        "method": {"kind": "sft"},
        "train": {"max_steps": 3},
        **sections,
    }
    return parse_job(document, "test")


def place(item: InputArtifact) -> str:
    return f"/there/{item.channel}/{item.base_name}".rstrip("/")


def test_collects_every_file(here: Path) -> None:
    items = {item.channel: item for item in collect_inputs(job(here))}
    assert items.keys() == {"model", "model-chat-template", "train", "validation"}
    assert items["model"].size_bytes == 102, "hidden files stay"
    assert [items["model"].relative_path(f) for f in items["model"].files] == [
        "model/config.json",
        "model/sub/weights.bin",
    ]


def test_rewritten_job_has_only_new_paths(here: Path) -> None:
    mine = job(here)
    text = rewrite_paths(mine, collect_inputs(mine), place)
    document = yaml.safe_load(text)
    assert document["model"]["source"] == "/there/model/model"
    assert document["data"]["train"][0]["source"] == "/there/train/rows.jsonl"
    assert document["data"]["validation"]["source"]["source"] == "/there/validation/held.jsonl"
    assert str(here) not in text
    assert parse_job(document, "there")


def test_rewriting_changes_only_paths(here: Path) -> None:
    mine = job(here)
    there = yaml.safe_load(rewrite_paths(mine, collect_inputs(mine), place))
    back = {place(item): item.source for item in collect_inputs(mine)}

    def restore(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: restore(v) for k, v in value.items()}
        if isinstance(value, list):
            return [restore(v) for v in value]
        return back.get(value, value) if isinstance(value, str) else value

    assert parse_job(restore(there), "back") == mine


def test_same_file_is_collected_once(here: Path) -> None:
    rows = str(here / "rows.jsonl")
    stage = {
        "method": {"kind": "sft"},
        "train": {"max_steps": 1},
        "data": {"train": [rows, str(here / "held.jsonl")]},
    }
    mine = parse_job(
        {
            "name": "two",
            "stages": [
                {**stage, "name": "a", "model": {"source": str(here / "model")}},
                {**stage, "name": "b"},
            ],
        },
        "test",
    )
    items = collect_inputs(mine)
    assert [item.path.name for item in items if item.path] == ["model", "rows.jsonl", "held.jsonl"]
    document = yaml.safe_load(rewrite_paths(mine, items, place))
    first, second = (stage["data"]["train"] for stage in document["stages"])
    assert first == second
    assert str(here) not in rewrite_paths(mine, items, place)


def test_prompts_are_not_files(here: Path) -> None:
    mine = job(here, evaluate={"samples": [str(here / "rows.jsonl"), "model"]})
    assert len(collect_inputs(mine)) == 4


def test_empty_folder(here: Path) -> None:
    (here / "empty").mkdir()
    mine = job(here, data={"train": str(here / "empty")})
    with pytest.raises(LaunchError, match="is empty"):
        _ = next(item for item in collect_inputs(mine) if item.channel == "train").files


def test_s3_addresses(here: Path) -> None:
    data = {"train": ["s3://b/folder", "s3://b/folder/", "s3://b/rows.jsonl.gz"]}
    found = [i for i in collect_inputs(job(here, data=data)) if i.path is None]
    assert [(i.channel, i.base_name, i.s3_uri) for i in found] == [
        ("train", "", "s3://b/folder/"),
        ("train-2", "", "s3://b/folder/"),
        ("train-3", "rows.jsonl.gz", "s3://b/rows.jsonl.gz"),
    ]


def test_digest_depends_on_content(here: Path) -> None:
    item = collect_inputs(job(here))[0]
    assert collect_inputs(job(here))[0].digest == item.digest
    (here / "model" / "config.json").write_text('{"a": 1}')
    assert collect_inputs(job(here))[0].digest != item.digest


def test_hub_names_and_missing_channels(here: Path) -> None:
    mine = job(
        here,
        model={"source": "owner/name"},
        data={"train": ["owner/set", "builtin:python-stdlib", "s3://b/x", "channel:rows"]},
    )
    assert hub_names(mine) == ["owner/name", "owner/set"]
    assert [p.path for p in missing_channels(mine)] == ["data.train.3.source"]
    assert hub_names(job(here)) == []


def test_collects_endpoints(here: Path) -> None:
    assert collect_endpoints(job(here)) == []
    away = {"kind": "openai", "url": "http://localhost:8000/v1", "model": "m"}
    writing = {"kind": "distill_text", "teacher": away}
    found = collect_endpoints(job(here, method=writing, data={"prompts": ["a"]}))
    assert found == [RemoteEndpoint("method.teacher", "openai", "m")]
    away = {**away, "api_key_env": "JUDGE_KEY"}
    judged = {"kind": "grpo", "reward": [{"kind": "judge", "judge": away}]}
    found = collect_endpoints(job(here, method=judged, data={"prompts": ["a"]}))
    assert found == [RemoteEndpoint("method.reward.judge", "openai", "m", key_variable="JUDGE_KEY")]
    own = {"kind": "distill_text", "teacher": {"kind": "local", "source": "owner/name"}}
    at_home = job(here, method=own, data={"prompts": ["a"]})
    assert (collect_endpoints(at_home), hub_names(at_home)) == ([], ["owner/name"])
    taught = job(here, method={"kind": "distill", "teacher": "owner/name"}, data={"train": "a.txt"})
    assert "owner/name" in hub_names(taught)
