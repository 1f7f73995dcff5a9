"""What each kind of adapter trains, keeps in memory and reaches, on one model.

`make bench-adapters`: a small model is pre-trained once, then adapted by every kind, each in a
process of its own.
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
"""By name: the adapter and its learning rate."""
SHAPE = {
    "architecture": "llama", "hidden_size": 256, "intermediate_size": 768,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4,
    "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip


def start(home: Path, steps: int) -> Path:
    """Return a model pre-trained on books."""
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
    """Return one kind's job; all see the same rows in the same order."""
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
    """Train every kind, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=ROOT / "runs/.adapters")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    if options.fresh:
        shutil.rmtree(options.home, ignore_errors=True)
    model = start(options.home, 2 * options.steps)
    found_of = {
        kind: train(job(model, kind, options.steps), options.home / kind.replace(" ", "-"))
        for kind in KINDS
    }
    full = found_of["full"]
    rows = [_row(kind, found, full) for kind, found in found_of.items()]
    before = full["evaluation"]["before"]["validation"]["loss"]
    body = table(
        ["kind", "trained", "share", "gradient + optimizer", "to full", "base, bytes a weight",
         "peak memory, MiB", "step, CPU s", "held-out loss"],
        rows,
    )  # fmt: skip
    write_section(
        "adapters",
        f"""## Adapters

Llama of {full["trained"] / 1e6:.1f}M parameters, pre-trained here for {2 * options.steps} steps on
books, then adapted to MedQuAD answers in {options.steps} steps of 8 rows of up to 128 tokens;
held-out loss {before:.3f} before. All in fp32 but QLoRA (4-bit base, bf16). "Gradient + optimizer"
are the bytes of gradients and of Adam's two moments; "base" those of what is frozen. In 4 bits it
takes {_quantized(found_of):.1%} of what it would in fp16 here, where embeddings in fp32 weigh much,
and {_quantized_wide(options.home):.1%} in a Llama of 57M parameters. "Peak memory" is the most that
the process held, evaluations included, above the {full["ready_bytes"] / 2**20:,.0f} MiB of loaded
libraries: mostly activations here. Half of what PiSSA counts as trained stays as it is. AdaLoRA
begins with singular values of zero, and wants a rate twenty times LoRA's. A step's time is the
processor's, of one thread. One run each.
{circumstances()} `make bench-adapters`.

{body}
""",
    )


def _quantized(found_of: dict[str, dict[str, Any]]) -> float:
    """Return the bytes of the 4-bit base, of those of the same in fp16."""
    return float(found_of["QLoRA"]["frozen_bytes"] / (2 * found_of["full"]["trained"]))


def _quantized_wide(home: Path) -> float:
    """Return the same of a wider model with random weights, as QLoRA loads it."""
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
    wanted: Any = parse_job(document, "wide")
    loaded = load_tokenizer(wanted.model)
    base = load_model(wanted, loaded, torch.device("cpu"))
    tuned = apply(base, wanted.adapter, tokenizer=loaded, max_length=128)
    frozen = [p for p in tuned.parameters() if not p.requires_grad]
    return weight_bytes(frozen) / (2 * weights)


def _row(kind: str, found: dict[str, Any], full: dict[str, Any]) -> list[str]:
    spent = found["optimizer_bytes"] + found["gradient_bytes"]
    of_full = full["optimizer_bytes"] + full["gradient_bytes"]
    return [
        kind,
        f"{found['trained']:,}",
        f"{found['trained'] / full['trained']:.2%}",
        f"{spent / 2**20:.2f} MiB",
        f"{spent / of_full:.1%}",
        f"{found['frozen_bytes'] / full['trained']:.2f}" if found["frozen_bytes"] else "–",
        f"{(found['peak_bytes'] - found['ready_bytes']) / 2**20:,.0f}",
        f"{found['step_s']:.2f}",
        f"{found['evaluation']['after']['validation']['loss']:.3f}",
    ]


if __name__ == "__main__":
    main()
