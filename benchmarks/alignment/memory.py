"""Peak memory of PPO: four models, or one backbone with adapters.

`python -m benchmarks.alignment.memory`; `make bench-alignment` runs it too. Each configuration is
trained for two steps, and the allocator's peak is recorded as in `benchmarks.memory`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.memory.cases import Case
from benchmarks.memory.fixtures import write_fixtures
from benchmarks.memory.measure import measure
from benchmarks.readme_tables import circumstances, table, write_section

_MODEL, _SCORER = "llama-33m", "scorer-33m"
_ANSWERS, _MICRO, _NEW_TOKENS = 4, 2, 64
_LORA: dict[str, Any] = {"kind": "lora", "r": 16, "alpha": 32, "target_modules": "all-linear"}
_RULE = {"kind": "length", "min_words": 8, "max_words": 16}
_CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "four models: policy, critic, reference, reward model": {},
    "LoRA on the policy, a separate critic, reward model": {"adapter": _LORA, "critic": "own"},
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
        peaks = measure_all(Path(scratch))
    write_section("ppo-memory", _section(peaks))


def measure_all(scratch: Path) -> dict[str, int]:
    """Return the peak bytes of each configuration.

    Args:
        scratch: The folder to write models and run folders to.
    """
    fixtures = scratch / "memory"
    fixtures.mkdir()
    write_fixtures(fixtures)
    scorer = fixtures / "models" / _SCORER
    _make_scorer(fixtures / "models" / _MODEL, scorer)
    peaks = {}
    for number, (name, settings) in enumerate(_CONFIGURATIONS.items()):
        peak = measure(_case(name, settings, scorer), fixtures, scratch / f"memory-{number}")[
            "peak"
        ]
        print(f"{name}: {peak / 2**20:,.0f} MiB", flush=True)
        peaks[name] = int(peak)
    return peaks


def _case(name: str, settings: dict[str, Any], scorer: Path) -> Case:
    backbone = settings.get("backbone", "own")
    reward = {"kind": "model", "source": str(scorer), "backbone": backbone}
    method = {
        "kind": "ppo",
        "reward": _RULE if settings.get("rule") else reward,
        "rollout": {"max_new_tokens": _NEW_TOKENS, "batch": _ANSWERS},
        "critic": {"backbone": settings.get("critic", "auto")},
        "epochs": 1,
    }
    train = {"micro_batch_size": _MICRO, "global_batch_size": _ANSWERS}
    data = {"train": "prompts", "max_length": 64}
    sections = {"model": {"source": _MODEL}, "data": data, "method": method, "train": train}
    adapter = {"adapter": settings["adapter"]} if "adapter" in settings else {}
    return Case(name, "ppo", (sections, adapter))


def _make_scorer(model: Path, folder: Path) -> None:
    """Write a reward model of the same size, as a LoRA adapter."""
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
    """Return the section of the results page."""
    four_models = next(iter(peaks.values()))
    rows = [
        [name, f"{peak / 2**20:,.0f} MiB", f"{peak / four_models:.2f}"]
        for name, peak in peaks.items()
    ]
    return f"""## Memory of PPO

Llamas of 33M parameters in fp32, micro-batches of {_MICRO} answers. The numbers are the peak of
tensor memory between the end of the first step and the end of training, as the allocator counts it.
With adapters, policy and critic share one backbone, and the backbone without adapters is the
reference. The reward model is a separate model or one more adapter.
{circumstances()}

{table(["", "peak", "relative to four models"], rows)}"""


if __name__ == "__main__":
    main()
