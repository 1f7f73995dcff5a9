"""Golden prompts on Bedrock: an imported model answers as `temper serve` answered."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from deployment.errors import DeployModelError
from deployment.golden import GoldenCheck, read_golden, record_golden
from deployment.spec import GoldenPrompts
from deployment.targets.bedrock_import import BedrockImportTarget
from emulator.bedrock_account import BedrockTimings
from emulator.clock import SystemClock
from serving.model import load_served_model
from tests.factories import write_jsonl
from tests.unit.deployment.bedrock import bedrock_deployments
from tests.unit.emulator.bedrock import make_importable_model, upload
from tests.unit.serving.running import running_server


@pytest.mark.slow
def test_an_imported_model_is_compared_with_the_one_that_was_evaluated(tmp_path: Path) -> None:
    model = make_importable_model(tmp_path / "llama")
    chat = {"messages": [{"role": "user", "content": "hello"}]}
    asked = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": "What is a list?"}, chat])
    recorded = tmp_path / "golden.jsonl"
    with running_server(load_served_model("tiny", str(model), {})) as server:
        record_golden(asked, recorded, f"{server.url}/v1")
    rows = [json.loads(line) for line in recorded.read_text().splitlines()]
    rows[0]["log_probs"][0] -= 1.0
    wrong = write_jsonl(tmp_path / "wrong.jsonl", rows)
    timings = BedrockTimings(import_s=0.1, load_s=0)
    with bedrock_deployments(SystemClock(), time.sleep, tmp_path / "home", timings) as made:
        upload(made.here.s3, model)
        target = BedrockImportTarget(made.account)
        request = made.request("bedrock-import", made.model())
        checks = [
            GoldenCheck(
                read_golden(file), GoldenPrompts(file=file, tolerance=1e-3), target, "support"
            )
            for file in (recorded, wrong)
        ]
        good, bad = (replace(request, verify=lambda c=check: c.after("it")) for check in checks)
        assert target.deploy(good).state == "deployed"
        assert made.here.service.runtime.calls.count("InvokeModel") > 2, (
            "the first found it unloaded"
        )
        with pytest.raises(DeployModelError, match=r"1 of 2 differ: line 1: token 1 .* not -"):
            target.deploy(bad)
