"""Trained parameters, memory, speed and loss of every adapter on one model: `make bench-adapters`.

A small model is pre-trained once, then fine-tuned with each adapter in a separate process.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from benchmarks.readme_tables import circumstances, table, write_section
from benchmarks.training_runs import DATA, ROOT, train, weight_bytes

KINDS: dict[str, tuple[dict[str, Any] | None, float]] = {
    "full": (None, 1e-3),
    "LoRA": ({"kind": "lora", "r": 4, "alpha": 8, "target_modules": ["q_proj", "v_proj"]}, 1e-2),
    "DoRA": (
        {"kind": "lora", "r": 4, "alpha": 8, "target_modules": ["q_proj", "v_proj"],
         "use_dora": True},
        1e-2,
    ),
    "PiSSA": (
        {"kind": "lora", "r": 4, "alpha": 8, "target_modules": ["q_proj", "v_proj"],
         "init": "pissa"},
        1e-2,
    ),
    "AdaLoRA": (
        {"kind": "adalora", "r": 4, "init_r": 6, "alpha": 8, "delta_t": 1,
         "target_modules": ["q_proj", "v_proj"]},
        2e-1,
    ),
    "QLoRA": ({"kind": "qlora", "r": 4, "alpha": 8, "target_modules": ["q_proj", "v_proj"]}, 1e-2),
    "IA3": ({"kind": "ia3"}, 3e-2),
    "prompt tuning": ({"kind": "prompt_tuning", "num_virtual_tokens": 20}, 1e-1),
    "P-tuning": ({"kind": "p_tuning", "num_virtual_tokens": 20}, 5e-3),
    "prefix tuning": ({"kind": "prefix_tuning", "num_virtual_tokens": 20}, 5e-2),
    "bottleneck": ({"kind": "bottleneck", "reduction_factor": 16}, 5e-3),
}  # fmt: skip
"""The adapter section and learning rate by name."""
SHAPE = {
    "architecture": "llama", "hidden_size": 256, "intermediate_size": 768,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4,
    "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip


def pretrain(home: Path, steps: int) -> Path:
    """Pre-train the model on books and return its folder."""
    train(
        {
            "name": "start",
            "model": {
                "source": "scratch",
                "scratch": SHAPE,
                "tokenizer": str(DATA / "models/stories260K-hf"),
            },
            "data": {
                "train": {"source": str(DATA / "pretrain/standard_ebooks.parquet"), "limit": 120},
                "validation": "none",
                "max_length": 128,
                "packing": True,
            },
            "method": {"kind": "pretrain"},
            "train": {"max_steps": steps, "global_batch_size": 8, "learning_rate": 1e-3},
            "tracking": {"mlflow": False},
        },
        home / "start",
    )
    return home / "start/model"


def job(model: Path, kind: str, steps: int) -> dict[str, Any]:
    """Return the job of one adapter; all adapters see the same rows in the same order.

    Args:
        model: The pre-trained model.
        kind: A key of `KINDS`.
        steps: Optimizer steps.
    """
    section, rate = KINDS[kind]
    return {
        "name": "kind",
        "model": {"source": str(model)},
        "data": {
            "train": {"source": str(DATA / "sft/medquad_qa.parquet"), "limit": 300},
            "validation": {"split": "10%"},
            "max_length": 128,
        },
        "method": {"kind": "sft"},
        **({"adapter": section} if section else {}),
        "train": {
            "max_steps": steps,
            "global_batch_size": 8,
            "micro_batch_size": 8,
            "learning_rate": rate,
        },
        "precision": "bf16" if kind == "QLoRA" else "fp32",
        "tracking": {"mlflow": False},
    }


def main() -> None:
    """Train every adapter and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=ROOT / "runs/.adapters")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    if options.fresh:
        shutil.rmtree(options.home, ignore_errors=True)
    model = pretrain(options.home, 2 * options.steps)
    results = {
        kind: train(job(model, kind, options.steps), options.home / kind.replace(" ", "-"))
        for kind in KINDS
    }
    full = results["full"]
    rows = [_row(kind, result, full) for kind, result in results.items()]
    before = full["evaluation"]["before"]["validation"]["loss"]
    body = table(
        ["adapter", "trained", "share", "gradient + optimizer", "vs full", "base, bytes per weight",
         "peak memory, MiB", "step, CPU s", "held-out loss"],
        rows,
    )  # fmt: skip
    write_section(
        "adapters",
        f"""## Adapters

A Llama of {full["trained"] / 1e6:.1f}M parameters, pre-trained on books for {2 * options.steps}
steps, then fine-tuned on MedQuAD answers for {options.steps} steps of 8 rows of up to 128 tokens.
The held-out loss before fine-tuning is {before:.3f}. All runs use fp32 except QLoRA (4-bit base,
bf16). "Gradient + optimizer" is the memory of gradients and of Adam's two moments; "base" is that
of frozen weights. The 4-bit base takes {_quantized(results):.1%} of its size in fp16 here, where
fp32 embeddings are a large part, and {_quantized_wide(options.home):.1%} in a Llama of 57M
parameters.
"Peak memory" is the peak of the process, evaluations included, above the
{full["ready_bytes"] / 2**20:,.0f} MiB of loaded libraries; here it is mostly activations. Half of
the parameters that PiSSA counts as trained do not change. AdaLoRA starts with singular values of
zero and needs twenty times the learning rate of LoRA. "Step" is CPU time of one thread. One run
each.
{circumstances()} `make bench-adapters`.

{body}
""",
    )


def _quantized(results: dict[str, dict[str, Any]]) -> float:
    """Return the size of the 4-bit base relative to the same base in fp16."""
    return float(results["QLoRA"]["frozen_bytes"] / (2 * results["full"]["trained"]))


def _quantized_wide(home: Path) -> float:
    """Return the same ratio for a wider model with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from training.adapters.qlora import apply
    from training.config.load import parse_job
    from training.models.load import load_model
    from training.models.tokenizer import load_tokenizer

    shape = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 8,
             "num_attention_heads": 12, "vocab_size": 512, "tie_word_embeddings": True}  # fmt: skip
    model = LlamaForCausalLM(LlamaConfig(**shape))
    weights = sum(parameter.numel() for parameter in model.parameters())
    model.save_pretrained(home / "wide")
    tokenizer = str(DATA / "models/stories260K-hf")
    document = job(home / "wide", "QLoRA", 1)
    document["model"]["tokenizer"] = tokenizer
    parsed: Any = parse_job(document, "wide")
    loaded = load_tokenizer(parsed.model)
    base = load_model(parsed, loaded, torch.device("cpu"))
    tuned = apply(base, parsed.adapter, tokenizer=loaded, max_length=128)
    frozen = [p for p in tuned.parameters() if not p.requires_grad]
    return weight_bytes(frozen) / (2 * weights)


def _row(kind: str, result: dict[str, Any], full: dict[str, Any]) -> list[str]:
    adapter_bytes = result["optimizer_bytes"] + result["gradient_bytes"]
    full_bytes = full["optimizer_bytes"] + full["gradient_bytes"]
    return [
        kind,
        f"{result['trained']:,}",
        f"{result['trained'] / full['trained']:.2%}",
        f"{adapter_bytes / 2**20:.2f} MiB",
        f"{adapter_bytes / full_bytes:.1%}",
        f"{result['frozen_bytes'] / full['trained']:.2f}" if result["frozen_bytes"] else "–",
        f"{(result['peak_bytes'] - result['ready_bytes']) / 2**20:,.0f}",
        f"{result['step_s']:.2f}",
        f"{result['evaluation']['after']['validation']['loss']:.3f}",
    ]


if __name__ == "__main__":
    main()
