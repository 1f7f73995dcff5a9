"""Adapters trained on two tasks, together on one base, do both better than either alone."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

import training.adapters.composed_tuner  # noqa: F401  (PEFT then knows the type)
from tests.making import make_tiny_model, write_jsonl
from tests.parity.test_adapters import held_out
from tests.running import Run, changed, train_here
from training.config.load import parse_job
from training.errors import JobError, ModelError
from training.export.formats import merged_folder

TASKS = {"assent": ("yes of course", "yes indeed"), "refuse": ("no never", "no not that")}
HALF = [0.3, 0.3]
"""Where A is added to A and B to B, adapters that began alike count twice."""
MERGES: dict[str, dict[str, Any]] = {
    "cat": {"combination": "cat"},
    "linear": {"combination": "linear", "weights": HALF},
    "svd": {"combination": "svd", "r": 16},
    "ties": {"combination": "ties", "density": 0.8},
    "dare": {"combination": "dare_linear", "density": 0.9, "weights": HALF},
    "magnitude": {"combination": "magnitude_prune", "density": 0.8, "weights": HALF},
}


def rows(task: str, number: int, seed: int) -> list[dict[str, str]]:
    """Return questions that are answered as the task says."""
    chance = random.Random(f"{task} {seed}")
    found = []
    for _ in range(number):
        word = "".join(chance.choice("abcdefgh") for _ in range(4))
        answer = chance.choice(TASKS[task])
        found.append({"prompt": f"{task} {word}?", "completion": answer})
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compose")


@pytest.fixture(scope="module")
def job(home: Path) -> dict[str, Any]:
    model = make_tiny_model(home / "base")
    mixed = write_jsonl(home / "mix.jsonl", [r for t in TASKS for r in rows(t, 96, 1)])
    held = write_jsonl(home / "held.jsonl", [r for t in TASKS for r in rows(t, 48, 2)])
    return {
        "name": "tiny",
        "model": {"source": str(model)},
        "data": {
            "train": str(mixed), "max_length": 48, "workers": 1,
            "validation": {"source": str(held)},
        },
        "method": {"kind": "sft"},
        "train": {
            "max_steps": 20, "global_batch_size": 16, "micro_batch_size": 16,
            "learning_rate": 1e-2,
        },
        "tracking": {"mlflow": False},
    }  # fmt: skip


@pytest.fixture(scope="module")
def members(job: dict[str, Any], home: Path) -> dict[str, str]:
    """Adapters of one task each, of different ranks."""
    found = {}
    for task in TASKS:
        own = write_jsonl(home / f"{task}.jsonl", rows(task, 192, 1))
        document = changed(
            job,
            data={"train": str(own)},
            train={"max_steps": 40, "learning_rate": 2e-2},
            adapter={"kind": "lora", "r": 8, "alpha": 16},
        )
        found[task] = str(train_here(document, home / task).path / "model")
    return found


@pytest.fixture(scope="module")
def alone(job: dict[str, Any], members: dict[str, str], home: Path) -> dict[str, float]:
    """The loss on both tasks' held-out rows of each adapter by itself."""
    tokenizer = AutoTokenizer.from_pretrained(job["model"]["source"])
    found = {}
    for task, folder in members.items():
        base = AutoModelForCausalLM.from_pretrained(job["model"]["source"])
        model = PeftModel.from_pretrained(base, folder).eval()
        found[task] = held_out(model, job, tokenizer, home / f"look-{task}")[1]
    return found


def losses(run: Run) -> tuple[float, float]:
    measured = json.loads((run.path / "evaluation.json").read_text())
    before, after = (measured[when]["validation"]["loss"] for when in ("before", "after"))
    return before, after


def composed(job: dict[str, Any], members: dict[str, str], how: dict[str, Any]) -> dict[str, Any]:
    return {**job, "compose": {"adapters": members, "how": how}}


@pytest.mark.parametrize("name", MERGES)
def test_a_weighted_merge_beats_either_alone(
    job: dict[str, Any],
    members: dict[str, str],
    alone: dict[str, float],
    tmp_path: Path,
    name: str,
) -> None:
    """As merged, before a single step of training."""
    how = {"kind": "merge", "weights": [0.6, 0.6], **MERGES[name]}
    document = changed(composed(job, members, how), train={"max_steps": 1})
    before, _ = losses(train_here(document, tmp_path / "run"))
    assert before < min(alone.values()) - 0.01, (before, alone)


HOWS: dict[str, dict[str, Any]] = {
    "parallel": {"kind": "parallel", "start": 0.5},
    "gate per token": {"kind": "gate"},
    "gate per sequence": {"kind": "gate", "per": "sequence"},
}


@pytest.mark.parametrize("name", HOWS)
def test_learning_how_to_meet_beats_either_alone(
    job: dict[str, Any],
    members: dict[str, str],
    alone: dict[str, float],
    tmp_path: Path,
    name: str,
) -> None:
    run = train_here(composed(job, members, HOWS[name]), tmp_path / "run")
    before, after = losses(run)
    assert after < before
    assert after < min(alone.values()) - 0.01, (after, alone)

    # PEFT loads it, with its members in it; an answer is the forward pass token by token.
    base = AutoModelForCausalLM.from_pretrained(job["model"]["source"])
    tokenizer = AutoTokenizer.from_pretrained(job["model"]["source"])
    model = PeftModel.from_pretrained(base, run.path / "model").eval()
    assert held_out(model, job, tokenizer, tmp_path)[1] == pytest.approx(after, abs=1e-5)
    ids = tokenizer("assent abcd?", return_tensors="pt")["input_ids"]
    expected = ids
    with torch.no_grad():
        for _ in range(6):
            token = model(input_ids=expected, use_cache=False).logits[:, -1:].argmax(-1)
            expected = torch.cat([expected, token], dim=1)
        answered = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False,
            use_cache=True, eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
    assert torch.equal(answered, expected)

    if HOWS[name]["kind"] == "parallel":
        assert "logits differ" in merged_folder(run.path / "model", tmp_path / "out")
    else:
        with pytest.raises(ModelError, match=r"cannot be merged .*gate decides by the input"):
            merged_folder(run.path / "model", tmp_path / "out")


def test_the_members_stay_as_they_were(
    job: dict[str, Any], members: dict[str, str], tmp_path: Path
) -> None:
    document = changed(composed(job, members, HOWS["gate per token"]), train={"max_steps": 4})
    weights = train_here(document, tmp_path / "run").weights
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    for number, folder in enumerate(members.values()):
        own = Run(Path(folder).parent).weights
        part = slice(8 * number, 8 * number + 8)
        assert torch.equal(weights[f"{layer}.composed_A"][part], own[f"{layer}.lora_A.weight"])
        up = weights[f"{layer}.composed_B"][:, part]
        assert torch.equal(up, own[f"{layer}.lora_B.weight"] * 2)


def test_what_does_not_belong_together_is_refused(
    job: dict[str, Any], members: dict[str, str], tmp_path: Path
) -> None:
    """One sentence each, before anything is trained."""
    small = changed(
        job,
        train={"max_steps": 4},
        adapter={"kind": "lora", "r": 4, "target_modules": ["q_proj"]},
    )
    other = str(train_here(small, tmp_path / "small").path / "model")
    mixed = {"assent": members["assent"], "small": other}
    linear = composed(job, mixed, {"kind": "merge", "combination": "linear"})
    with pytest.raises(ModelError, match=r"assent has r 8 on 14 layers, small r 4 on 2"):
        train_here(linear, tmp_path / "linear")
    train_here(
        changed(composed(job, mixed, {"kind": "merge"}), train={"max_steps": 1}), tmp_path / "cat"
    )

    make_tiny_model(tmp_path / "wide", intermediate_size=96)
    elsewhere = changed(linear, model={"source": str(tmp_path / "wide")})
    with pytest.raises(ModelError, match="whose weights are not those in"):
        train_here(elsewhere, tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=r"is no adapter's folder"):
        train_here(
            composed(job, {**mixed, "assent": str(tmp_path)}, {"kind": "gate"}), tmp_path / "none"
        )
    with pytest.raises(JobError, match=r"sharding\.zero: .*adapters are read into whole layers"):
        parse_job({**linear, "sharding": {"zero": 3}}, "test")
    with pytest.raises(JobError, match="give compose or adapter, not both"):
        parse_job({**linear, "adapter": {"kind": "lora"}}, "test")
