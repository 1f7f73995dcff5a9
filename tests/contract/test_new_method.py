"""Test that a method is added by the recipe of CONTRIBUTING: a class, a line in the union, a file.

The recipe is followed in a copy of the source, where a small method is trained, planned and
reported without any other file knowing it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from launch.code_bundle import PACKAGES
from tests.run_commands import ROOT, Run, changed

CONFIG = '''"""Section `method: {kind: scaled_sft}`: next tokens with a scaled loss."""

from typing import Any, Literal

from training.config.method_base import MethodSection
from training.config.metric_labels import MetricLabel
from training.config.step_profile import StepProfile, StepSpec
from training.config.types import PositiveFloat


class ScaledSft(MethodSection):
    """Supervised fine-tuning whose loss is multiplied by a factor."""

    impl = "training.methods.scaled_sft:build"
    rows = "dialogue"
    title = "Scaled fine-tuning"
    metrics = {"scaled": MetricLabel("scaled loss", "lower", 3, "Held-out scaled loss")}

    kind: Literal["scaled_sft"]
    factor: PositiveFloat = 2.0
    """Factor of the loss."""

    def step_profile(self, job: Any, step: StepSpec) -> StepProfile:
        """Return the costs of learning next tokens, as if each row were two sequences."""
        return StepProfile(sequences=2)
'''

METHOD = '''"""Next-token training with a scaled loss."""

from typing import Any

from training.methods.common.causal_lm import CausalLmTrainer, build_causal_lm


class ScaledSftTrainer(CausalLmTrainer):
    """Causal LM trainer whose loss is multiplied by `method.factor`."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Return the scaled loss."""
        return self.setup.job.method.factor * super().compute_loss(*args, **kwargs)


def build(model: Any, tokenizer: Any, rows: Any, arguments: Any, setup: Any) -> ScaledSftTrainer:
    """Return the trainer."""
    return build_causal_lm(model, tokenizer, rows, arguments, setup, trainer=ScaledSftTrainer)
'''


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of the source to which the method was added."""
    copy = tmp_path / "checkout"
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    (copy / "training/config/scaled_sft.py").write_text(CONFIG)
    (copy / "training/methods/scaled_sft.py").write_text(METHOD)
    union = copy / "training/config/methods.py"
    text = union.read_text()
    assert "    | Constitutional,\n" in text
    text = text.replace("    | Constitutional,\n", "    | Constitutional\n    | ScaledSft,\n")
    first = "from training.config.constitutional import"
    union.write_text(
        text.replace(first, f"from training.config.scaled_sft import ScaledSft\n{first}", 1)
    )
    return copy


def in_checkout(checkout: Path, *arguments: str) -> str:
    """Run Python in the copy and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.slow
def test_new_method_is_trained_planned_and_reported(
    checkout: Path, document: dict[str, Any], tmp_path: Path
) -> None:
    runs = {}
    for kind in ("sft", "scaled_sft"):
        job = changed(document, name=kind.replace("_", "-"), train={"max_steps": 2})
        job |= {"method": {"kind": kind}, "data": {**job["data"], "validation": {"split": "20%"}}}
        path = tmp_path / f"{kind}.yaml"
        path.write_text(yaml.safe_dump(job))
        in_checkout(checkout, "-m", "training", str(path), "--runs", str(tmp_path / "runs"))
        (latest,) = (tmp_path / "runs" / job["name"]).glob("latest")
        runs[kind] = Run(latest)

    plain, scaled = runs["sft"], runs["scaled_sft"]
    assert scaled.losses[0] == pytest.approx(2 * plain.losses[0], rel=1e-4)

    plans = [json.loads((run.path / "plan.json").read_text()) for run in (plain, scaled)]
    used, used_by_pairs = (plan["predicted"]["memory_gib"]["total"] for plan in plans)
    assert used_by_pairs > used, "the planner does not read the step profile"

    assert "Scaled fine-tuning" in (scaled.path / "report.html").read_text()
    label = (
        "from training.report.metric_labels import metric_label; "
        "print(metric_label('scaled').words)"
    )
    assert in_checkout(checkout, "-c", label).strip() == "scaled loss"
