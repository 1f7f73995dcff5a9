"""Each preset fits a model, or is refused with an alternative that fits, from 1 to 70 billion."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from catalog.instances import instance
from planning.build import make_plan
from planning.document import Plan
from tests.factories import write_jsonl
from tests.run_commands import ROOT
from training.config import Job
from training.config.load import load_job

PRESETS = ROOT / "jobs/presets"
LLAMA = {"model_type": "llama", "num_key_value_heads": 8, "vocab_size": 128256}
QWEN = {"model_type": "qwen2", "num_key_value_heads": 8, "vocab_size": 152064}
SHAPES: dict[str, dict[str, Any]] = {
    "1B": {
        **LLAMA,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
    "3B": {
        **LLAMA,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "head_dim": 128,
        "tie_word_embeddings": True,
    },
    "8B": {
        **LLAMA,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
    "14B": {
        **QWEN,
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 48,
        "num_attention_heads": 40,
    },
    "32B": {
        **QWEN,
        "hidden_size": 5120,
        "intermediate_size": 27648,
        "num_hidden_layers": 64,
        "num_attention_heads": 40,
    },
    "70B": {
        **LLAMA,
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
    },
}
LARGEST = {"p4d": "8B", "p5": "14B", "g5": "14B", "g6e": "14B", "trn2": "32B"}
"""Largest model that fits each preset, as its header says."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    row = {"prompt": "Why? " * 20, "completion": "Because. " * 200}
    return write_jsonl(tmp_path_factory.mktemp("rows") / "rows.jsonl", [row] * 500)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with a `config.json` each, and no weights."""
    folder = tmp_path_factory.mktemp("models")
    for name, shape in SHAPES.items():
        (folder / name).mkdir()
        config = {"max_position_embeddings": 32768, "tie_word_embeddings": False, **shape}
        (folder / name / "config.json").write_text(json.dumps(config))
    return folder


def plan(preset: str, model: Path, rows: Path, *overrides: str) -> Plan:
    settings = f"model.source={model} data.train={rows} {' '.join(overrides)}"
    job = load_job(PRESETS / f"{preset}.yaml", settings)
    assert isinstance(job, Job)
    return make_plan(job)


def overrides_of(change: str) -> list[str]:
    """Return `train.micro_batch_size: 1` or `adapter: {kind: lora}` as overrides."""
    found = []
    for part in change.split(" and "):
        key, _, value = part.partition(": ")
        inner = re.fullmatch(r"\{(\w+): (\w+)\}", value)
        found.append(f"{key}.{inner[1]}={inner[2]}" if inner else f"{key}={value}")
    return found


def alternatives_of(refusal: str) -> list[list[str]]:
    """Return the overrides of each alternative that a refusal names."""
    ways = []
    if elsewhere := re.search(r"would fit it as it is: (.*?\))(\.|$)", refusal):
        for count, name in re.findall(r"(\d+) × (ml\.\S+)", elsewhere[1]):
            ways.append([f"resources.instance={name}", f"resources.count={count}"])
    if here := re.search(r"Here it would fit with (.*)$", refusal):
        ways += [overrides_of(change) for change in re.split(r", or ", here[1])]
    return ways


SIZES = list(SHAPES)
CASES = [
    pytest.param(preset, size, marks=() if size == "8B" else pytest.mark.slow)
    for preset in LARGEST
    for size in SIZES
]


@pytest.mark.parametrize(("preset", "size"), CASES)
def test_fits_or_names_what_fits(preset: str, size: str, models: Path, rows: Path) -> None:
    found = plan(preset, models / size, rows)
    assert found.fits is (SIZES.index(size) <= SIZES.index(LARGEST[preset]))
    if found.fits:
        return
    (refusal,) = found.refused
    ways = alternatives_of(refusal)
    assert ways, refusal
    for overrides in ways:
        again = plan(preset, models / size, rows, *overrides)
        assert again.fits, (overrides, again.refused)


def test_every_preset_is_here() -> None:
    assert {path.stem for path in PRESETS.glob("*.yaml")} == LARGEST.keys()
    for name in LARGEST:
        job = load_job(PRESETS / f"{name}.yaml")
        assert isinstance(job, Job)
        assert (job.resources.instance or "").startswith(f"ml.{name}.")
        assert job.precision == "bf16" and job.data.packing and job.train.micro_batch_size


@pytest.mark.parametrize("name", LARGEST)
def test_variables_of_the_network_have_a_reason(name: str) -> None:
    """AWS advises to leave out NCCL's, and the container sets those of EFA."""
    text = (PRESETS / f"{name}.yaml").read_text()
    job = load_job(PRESETS / f"{name}.yaml")
    assert isinstance(job, Job)
    named = [key for key in job.resources.environment if key.startswith(("NCCL_", "FI_", "NEURON"))]
    assert not named
    source = "nrt-env-var-reference" if name == "trn2" else "efa-cheatsheet.md"
    assert "EFA" in text.split("resources:")[1] and source in text.split("resources:")[1]
    count = re.search(r"(\d+|one) EFA interface", text)
    assert count is not None
    found = instance(job.resources.instance or "")
    assert found is not None and found.efa == (1 if count[1] == "one" else int(count[1]))


def test_a_bias_does_not_keep_the_gradients_of_its_layer(models: Path, rows: Path) -> None:
    """FSDP reduces the gradients of a layer at once, and frees them."""
    folder = models / "biased"
    folder.mkdir()
    config = {**SHAPES["8B"], "max_position_embeddings": 32768, "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "qwen2"}))
    with_bias = plan("trn2", folder, rows).memory_gib["activations"]
    assert with_bias == pytest.approx(
        plan("trn2", models / "8B", rows).memory_gib["activations"], rel=0.05
    )


@pytest.mark.parametrize(("zero", "buckets"), [(1, 2), (2, 2), (3, 1)])
def test_buckets_are_in_the_plan(zero: int, buckets: int, models: Path, rows: Path) -> None:
    """DeepSpeed's ZeRO 1 and 2 fill a second bucket while the first is reduced."""

    def buffers(*settings: str) -> float:
        found = plan("p4d", models / "1B", rows, f"sharding.zero={zero}", *settings)
        return found.memory_gib["buffers"]

    overlapping, plain = buffers(), buffers("sharding.overlap_comm=false")
    bucket_gib = 100_000_000 * 2 / 2**30
    if buckets == 1:
        assert overlapping == plain
    # The peak may be at another moment, with more in it than the second bucket.
    assert overlapping - plain >= (buckets - 1) * bucket_gib - 0.02
    larger = buffers("sharding.reduce_bucket_size=300000000")
    assert larger - overlapping >= buckets * 2 * bucket_gib - 0.02
