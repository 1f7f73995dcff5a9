"""Measure forgetting by adapter and by countermeasure: `make bench-forgetting`.

A small model trained on general text learns to answer medical questions. The table compares the
loss on general text with the loss on answers, before and after.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from benchmarks.readme_tables import circumstances, table, write_section
from benchmarks.training_runs import DATA, ROOT, train

FIGURE = ROOT / "docs/images/forgetting.png"
GENERAL = DATA / "pretrain/standard_ebooks.parquet"
UNSEEN = DATA / "pretrain/wikitext2_valid.txt.gz"

ADAPTERS: dict[str, tuple[dict[str, Any] | None, float]] = {
    "full": (None, 2e-3),
    "LoRA": ({"kind": "lora", "r": 8, "alpha": 16}, 1e-2),
    "bottleneck": ({"kind": "bottleneck", "reduction_factor": 4}, 1.5e-2),
    "prefix": ({"kind": "prefix_tuning", "num_virtual_tokens": 20}, 0.6),
}
"""The adapter section and learning rate by name."""
COUNTERMEASURES: dict[str, dict[str, Any]] = {
    "none": {},
    "replay 20%": {
        "data": {"replay": {"source": {"source": str(GENERAL), "limit": 40}, "share": "20%"}}
    },
    "KL to base 1": {"train": {"kl_to_base": 1.0}},
    "L2-SP 0.1": {"train": {"l2_sp": 0.1}},
}


def pretrain(home: Path, steps: int) -> Path:
    """Continue pre-training the smallest TinyStories model on books and return its folder."""
    train(
        {
            "name": "start",
            "model": {"source": str(DATA / "models/stories260K-hf")},
            "data": {
                "train": {"source": str(GENERAL), "limit": 120},
                "validation": "none",
                "max_length": 192,
                "packing": True,
            },
            "method": {"kind": "pretrain"},
            "train": {"max_steps": steps, "global_batch_size": 16, "learning_rate": 2e-3},
            "evaluate": {"forgetting": {"source": str(UNSEEN), "limit": 40}},
            "tracking": {"mlflow": False},
        },
        home / "start",
    )
    return home / "start/model"


def job(model: Path, adapter: str, countermeasure: str, steps: int) -> dict[str, Any]:
    """Return the job of one cell of the table.

    Args:
        model: The pre-trained model.
        adapter: A key of `ADAPTERS`.
        countermeasure: A key of `COUNTERMEASURES`.
        steps: Optimizer steps.
    """
    section, rate = ADAPTERS[adapter]
    changes = COUNTERMEASURES[countermeasure]
    return {
        "name": "cell",
        "model": {"source": str(model)},
        "data": {
            "train": {"source": str(DATA / "sft/medquad_qa.parquet"), "limit": 600},
            "validation": {"split": "10%"},
            "max_length": 192,
            **changes.get("data", {}),
        },
        "method": {"kind": "sft"},
        **({"adapter": section} if section else {}),
        "train": {
            "max_steps": steps,
            "global_batch_size": 16,
            "micro_batch_size": 16,
            "learning_rate": rate,
            **changes.get("train", {}),
        },
        "evaluate": {"forgetting": {"source": str(UNSEEN), "limit": 40}},
        "tracking": {"mlflow": False},
    }


def main() -> None:
    """Train every cell and write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=ROOT / "runs/.forgetting")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    if options.fresh:
        shutil.rmtree(options.home, ignore_errors=True)
    model = pretrain(options.home, 2 * options.steps)
    evaluations: dict[tuple[str, str], dict[str, Any]] = {}
    for number, adapter in enumerate(ADAPTERS):
        for column, countermeasure in enumerate(COUNTERMEASURES):
            folder = options.home / f"cell-{number}{column}"
            document = job(model, adapter, countermeasure, options.steps)
            evaluations[adapter, countermeasure] = train(document, folder)["evaluation"]
    _write(evaluations, options.steps)
    _draw(evaluations)


def _losses(evaluation: dict[str, Any]) -> tuple[float, float, float, float]:
    before, after = evaluation["before"], evaluation["after"]
    return (
        before["validation"]["loss"],
        after["validation"]["loss"],
        before["forgetting"]["loss"],
        after["forgetting"]["loss"],
    )


def _write(evaluations: dict[tuple[str, str], dict[str, Any]], steps: int) -> None:
    rows = []
    for (adapter, countermeasure), evaluation in evaluations.items():
        target, target_after, general, general_after = _losses(evaluation)
        rows.append(
            [adapter, countermeasure, f"{target:.3f} → {target_after:.3f}",
             f"{general:.3f} → {general_after:.3f}", f"{general_after / general - 1:+.1%}"]
        )  # fmt: skip
    body = table(["adapter", "countermeasure", "target loss", "general loss", "forgotten"], rows)
    rates = ", ".join(f"{name} {rate:g}" for name, (_, rate) in ADAPTERS.items())
    text = f"""## Forgetting

The smallest TinyStories model (0.26M parameters), after continued pre-training on books, learns 540
answers of MedQuAD in {steps} steps of 16 rows. Each adapter has its own learning rate ({rates}).
"Target" is the loss on held-out answers in nats per token; "general" is the loss on WikiText-2,
which is never trained on. Replay mixes in the books. A prefix changes the model even before
training. One run each.
{circumstances()} `make bench-forgetting`.

{body}

![Target loss against forgetting](../docs/images/forgetting.png)
"""
    write_section("forgetting", text)


def _draw(evaluations: dict[tuple[str, str], dict[str, Any]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 4.4), layout="constrained")
    colours = dict(zip(ADAPTERS, ("#3b6fb6", "#d1603d", "#4f9d69", "#8a5fbf"), strict=True))
    marks = dict(zip(COUNTERMEASURES, ("o", "s", "^", "D"), strict=True))
    for (adapter, countermeasure), evaluation in evaluations.items():
        _, target, general, after = _losses(evaluation)
        axes.scatter(
            target, 100 * (after / general - 1), s=52, color=colours[adapter],
            marker=marks[countermeasure], edgecolor="white", linewidth=0.6, zorder=3,
        )  # fmt: skip
    axes.axhline(0, color="#888888", linewidth=0.8, zorder=1)
    axes.grid(color="#e6e6e6", zorder=0)
    axes.set_xlabel("loss on held-out answers, nats per token (lower is better)")
    axes.set_ylabel("rise of the loss on general text, %")
    axes.spines[["top", "right"]].set_visible(False)
    handles = [
        pyplot.Line2D([], [], marker="o", linestyle="", color=c, label=n)
        for n, c in colours.items()
    ] + [
        pyplot.Line2D([], [], marker=m, linestyle="", color="#555555", label=n)
        for n, m in marks.items()
    ]
    axes.legend(handles=handles, ncols=2, frameon=False, fontsize=9)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=130)


if __name__ == "__main__":
    main()
