"""A suite on the served model, over HTTP, has the results of the suite on its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from temper.cli import main
from tests.factories import docstring_pairs, write_jsonl
from tests.unit.serving.running import RunningServer


def suite(folder: Path) -> Path:
    rows = [
        {**pair, "choices": [pair["completion"], "No value.", "x y z"], "target": 0}
        for pair in docstring_pairs(12)
    ]
    write_jsonl(folder / "rows.jsonl", rows)
    prompt = "Question: {{prompt}}\nAnswer:"
    exact = {"target": "completion", "max_new_tokens": 12, "scores": [{"kind": "rouge"}]}
    tasks = [
        {"name": "choice", "kind": "multiple_choice", "prompt": prompt, "choices": "choices"},
        {"name": "texts", "kind": "perplexity", "text": "completion"},
        {"name": "plain", "kind": "generation", "prompt": prompt, **exact},
        {"name": "chat", "kind": "generation", "prompt": prompt, "chat": True, **exact},
    ]
    tasks[0]["target"] = "target"
    document = {"suite": "served", "tasks": [{**task, "data": "rows.jsonl"} for task in tasks]}
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def items(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_the_results_are_equal(
    server: RunningServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TEMPER_CACHE", str(tmp_path / "cache"))
    source = server.served.source
    endpoint = {"kind": "openai", "url": f"{server.url}/v1", "model": "tiny", "tokenizer": source}
    (tmp_path / "endpoint.yaml").write_text(yaml.safe_dump(endpoint))
    out = tmp_path / "out"
    command = ["evaluate", str(tmp_path / "endpoint.yaml"), str(suite(tmp_path))]
    assert main([*command, "--against", source, "--out", str(out)]) == 0, capsys.readouterr()
    differences = {
        f"{task}.{metric}": found["difference"]
        for task, result in json.loads((out / "results.json").read_text())["tasks"].items()
        for metric, found in result["comparison"].items()
    }
    assert abs(differences.pop("texts.bits_per_byte")) < 1e-5
    assert differences["choice.accuracy"] == differences["choice.accuracy_norm"] == 0
    for task in ("choice", "texts", "plain", "chat"):
        through_server, local = (
            items(folder / "items" / f"{task}.jsonl") for folder in (out, out / "against")
        )
        assert len(local) == 12
        for one, other in zip(through_server, local, strict=True):
            assert one["answers"] == other["answers"]
            assert one["prompt_tokens"] == other["prompt_tokens"]
            for (_, nats), (_, expected) in zip(
                one["detail"].get("log_likelihoods", []),
                other["detail"].get("log_likelihoods", []),
                strict=True,
            ):
                assert nats == pytest.approx(expected, abs=1e-4)  # the sum over a choice's tokens
