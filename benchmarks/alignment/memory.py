"""What PPO holds at most: four models, or one backbone under adapters.

`python -m benchmarks.alignment.memory`, which `make bench-alignment` runs too. Each is trained for
two steps as `benchmarks.memory` does it, and the allocator's peak is taken.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.memory.cases import Case
from benchmarks.memory.fixtures import make_material
from benchmarks.memory.measure import measure
from benchmarks.readme_tables import circumstances, table, write_section

_MODEL, _SCORER = "llama-33m", "scorer-33m"
_ANSWERS, _MICRO, _NEW_TOKENS = 4, 2, 64
_LORA: dict[str, Any] = {"kind": "lora", "r": 16, "alpha": 32, "target_modules": "all-linear"}
_RULE = {"kind": "length", "min_words": 8, "max_words": 16}
_WAYS: dict[str, dict[str, Any]] = {
    "four models: policy, critic, reference, reward model": {},
    "LoRA on the policy, a critic of its own, reward model": {"adapter": _LORA, "critic": "own"},
    "one backbone (policy, critic, reference), reward model": {
        "adapter": _LORA,
        "backbone": "own",
    },
    "one backbone (policy, critic, reference, reward)": {"adapter": _LORA, "backbone": "shared"},
    "one backbone, a rule as reward": {"adapter": _LORA, "rule": True},
}


def main() -> None:
    """Measure, print, and write the section of the results page."""
    with tempfile.TemporaryDirectory() as scratch:
        peaks = measured(Path(scratch))
    write_section("ppo-memory", _section(peaks))


def measured(scratch: Path) -> dict[str, int]:
    """Return the peak of each way of training, in bytes.

    Args:
        scratch: Models and run folders are written there.
    """
    material = scratch / "memory"
    material.mkdir()
    make_material(material)
    scorer = material / "models" / _SCORER
    _make_scorer(material / "models" / _MODEL, scorer)
    found = {}
    for number, (name, way) in enumerate(_WAYS.items()):
        peak = measure(_case(name, way, scorer), material, scratch / f"memory-{number}")["peak"]
        print(f"{name}: {peak / 2**20:,.0f} MiB", flush=True)
        found[name] = int(peak)
    return found


def _case(name: str, way: dict[str, Any], scorer: Path) -> Case:
    backbone = way.get("backbone", "own")
    reward = {"kind": "model", "source": str(scorer), "backbone": backbone}
    method = {
        "kind": "ppo",
        "reward": _RULE if way.get("rule") else reward,
        "rollout": {"max_new_tokens": _NEW_TOKENS, "batch": _ANSWERS},
        "critic": {"backbone": way.get("critic", "auto")},
        "epochs": 1,
    }
    train = {"micro_batch_size": _MICRO, "global_batch_size": _ANSWERS}
    data = {"train": "prompts", "max_length": 64}
    sections = {"model": {"source": _MODEL}, "data": data, "method": method, "train": train}
    adapter = {"adapter": way["adapter"]} if "adapter" in way else {}
    return Case(name, "ppo", (sections, adapter))


def _make_scorer(model: Path, folder: Path) -> None:
    """Write a reward model of the same size, as an adapter."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from training.models.base_digest import write_base_digest

    torch.manual_seed(0)
    scorer = AutoModelForSequenceClassification.from_pretrained(model, num_labels=1)
    lora = LoraConfig(
        r=_LORA["r"],
        lora_alpha=_LORA["alpha"],
        target_modules=_LORA["target_modules"],
        task_type="SEQ_CLS",
    )
    get_peft_model(scorer, lora).save_pretrained(str(folder))
    write_base_digest(folder, str(model))
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)


def _section(peaks: dict[str, int]) -> str:
    """Return the heading, what was done, and the table."""
    whole = next(iter(peaks.values()))
    rows = [
        [name, f"{peak / 2**20:,.0f} MiB", f"{peak / whole:.2f}"] for name, peak in peaks.items()
    ]
    return f"""## Memory of PPO

Llamas of 33M weights in fp32, {_MICRO} answers at once, the most that tensors held between the end
of the first step and the end of training, as the allocator counts. Under adapters, policy and
critic are one backbone, which is the reference without them; a reward model lies beside it, or is
one more adapter.
{circumstances()}

{table(["", "peak", "of four models"], rows)}"""


if __name__ == "__main__":
    main()
