"""What each way of training forgets, with and without what holds it back.

`make bench-forgetting`: a small model that knows general text learns to answer medical questions;
what it lost of the general text stands beside what it gained.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from benchmarks.readme_tables import circumstances, table, write_section
from benchmarks.training_runs import DATA, ROOT, train

PICTURE = ROOT / "docs/images/forgetting.png"
GENERAL = DATA / "pretrain/standard_ebooks.parquet"
KEPT_OUT = DATA / "pretrain/wikitext2_valid.txt.gz"

ADAPTERS: dict[str, tuple[dict[str, Any] | None, float]] = {
    "full": (None, 2e-3),
    "LoRA": ({"kind": "lora", "r": 8, "alpha": 16}, 1e-2),
    "bottleneck": ({"kind": "bottleneck", "reduction_factor": 4}, 1.5e-2),
    "prefix": ({"kind": "prefix_tuning", "num_virtual_tokens": 20}, 0.6),
}
"""By name: the adapter and its learning rate."""
MEANS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "replay 20%": {
        "data": {"replay": {"source": {"source": str(GENERAL), "limit": 40}, "share": "20%"}}
    },
    "KL to base 1": {"train": {"kl_to_base": 1.0}},
    "L2-SP 0.1": {"train": {"l2_sp": 0.1}},
}


def start(home: Path, steps: int) -> Path:
    """Return a model that knows general text: TinyStories' smallest, read on into books."""
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
            "evaluate": {"forgetting": {"source": str(KEPT_OUT), "limit": 40}},
            "tracking": {"mlflow": False},
        },
        home / "start",
    )
    return home / "start/model"


def job(model: Path, adapter: str, means: str, steps: int) -> dict[str, Any]:
    """Return one cell's job."""
    section, rate = ADAPTERS[adapter]
    more = MEANS[means]
    return {
        "name": "cell",
        "model": {"source": str(model)},
        "data": {
            "train": {"source": str(DATA / "sft/medquad_qa.parquet"), "limit": 600},
            "validation": {"split": "10%"},
            "max_length": 192,
            **more.get("data", {}),
        },
        "method": {"kind": "sft"},
        **({"adapter": section} if section else {}),
        "train": {
            "max_steps": steps,
            "global_batch_size": 16,
            "micro_batch_size": 16,
            "learning_rate": rate,
            **more.get("train", {}),
        },
        "evaluate": {"forgetting": {"source": str(KEPT_OUT), "limit": 40}},
        "tracking": {"mlflow": False},
    }


def main() -> None:
    """Train every cell, and write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=ROOT / "runs/.forgetting")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    if options.fresh:
        shutil.rmtree(options.home, ignore_errors=True)
    model = start(options.home, 2 * options.steps)
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for number, adapter in enumerate(ADAPTERS):
        for column, means in enumerate(MEANS):
            folder = options.home / f"cell-{number}{column}"
            document = job(model, adapter, means, options.steps)
            found[adapter, means] = train(document, folder)["evaluation"]
    _write(found, options.steps)
    _draw(found)


def _losses(evaluation: dict[str, Any]) -> tuple[float, float, float, float]:
    before, after = evaluation["before"], evaluation["after"]
    return (
        before["validation"]["loss"],
        after["validation"]["loss"],
        before["forgetting"]["loss"],
        after["forgetting"]["loss"],
    )


def _write(found: dict[tuple[str, str], dict[str, Any]], steps: int) -> None:
    rows = []
    for (adapter, means), evaluation in found.items():
        target, target_after, general, general_after = _losses(evaluation)
        rows.append(
            [adapter, means, f"{target:.3f} → {target_after:.3f}",
             f"{general:.3f} → {general_after:.3f}", f"{general_after / general - 1:+.1%}"]
        )  # fmt: skip
    body = table(["trained", "held back by", "target loss", "general loss", "forgotten"], rows)
    rates = ", ".join(f"{name} {rate:g}" for name, (_, rate) in ADAPTERS.items())
    text = f"""## Against forgetting

TinyStories' smallest model (0.26M parameters), first read on into books, learns 540 answers of
MedQuAD in {steps} steps of 16, each kind at a learning rate of its own ({rates}). Target: held-out
answers, in nats per token. General: WikiText-2, which it never trains on; replay mixes in the
books. A prefix changes the model before it is trained. One run each.
{circumstances()} `make bench-forgetting`.

{body}

![Target loss against forgetting](../docs/images/forgetting.png)
"""
    write_section("forgetting", text)


def _draw(found: dict[tuple[str, str], dict[str, Any]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 4.4), layout="constrained")
    colours = dict(zip(ADAPTERS, ("#3b6fb6", "#d1603d", "#4f9d69", "#8a5fbf"), strict=True))
    marks = dict(zip(MEANS, ("o", "s", "^", "D"), strict=True))
    for (adapter, means), evaluation in found.items():
        _, target, general, after = _losses(evaluation)
        axes.scatter(
            target, 100 * (after / general - 1), s=52, color=colours[adapter],
            marker=marks[means], edgecolor="white", linewidth=0.6, zorder=3,
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
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=130)


if __name__ == "__main__":
    main()
