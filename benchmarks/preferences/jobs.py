"""Jobs of the benchmark: a start model, then each method with its own learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHAPE = {
    "architecture": "llama", "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 512,
    "vocab_size": 2048,
}  # fmt: skip
LENGTH = 256


@dataclass(frozen=True)
class Setting:
    """Training data and schedule of a method.

    Attributes:
        method: The method section of the job.
        rows: The file of rows: `pairs`, `labels` or `matched`.
        rate: The learning rate.
        epochs: Passes over the rows.
        start: `start`, or `reading`: the pre-trained model before fine-tuning.
    """

    method: dict[str, Any]
    rows: str
    rate: float
    epochs: float
    start: str = "start"


_ROBUST = {"kind": "dpo", "beta": 0.1, "loss": "robust", "label_smoothing": 0.2}
_KTO = {"kind": "kto", "beta": 0.1, "undesirable_weight": 5.0}
COMPARED = {
    "reward": Setting({"kind": "reward", "center_rewards": 0.01}, "pairs", 7e-4, 2),
    "dpo": Setting({"kind": "dpo", "beta": 0.1}, "pairs", 3e-4, 1),
    "dpo, ipo": Setting({"kind": "dpo", "beta": 0.1, "loss": "ipo"}, "pairs", 3e-4, 1),
    "dpo, robust": Setting(_ROBUST, "pairs", 3e-4, 1),
    "kto": Setting(_KTO, "labels", 3e-4, 2),
    "simpo": Setting({"kind": "simpo", "beta": 2.0}, "matched", 3e-4, 2, "reading"),
    "orpo": Setting({"kind": "orpo", "beta": 3.0}, "matched", 5e-4, 2, "reading"),
}
SAMPLED: dict[str, tuple[dict[str, Any], float, int]] = {
    "grpo": ({"kind": "grpo", "num_generations": 8, "beta": 0.02}, 3e-4, 20),
    "rloo": ({"kind": "rloo", "num_generations": 4, "beta": 0.02}, 3e-4, 20),
    "ppo": (
        {"kind": "ppo", "kl": {"target": 6.0, "coefficient": 0.05, "adaptive": True}}, 3e-4, 40,
    ),
}  # fmt: skip
"""The method section, learning rate and steps by name."""
ANSWER_TOKENS = 64


def pretraining(rows: Path) -> dict[str, Any]:
    """Return the job that pre-trains a model on dialogues, with preferred and rejected answers."""
    return {
        "name": "reading",
        "model": {"source": "scratch", "scratch": SHAPE},
        "data": {
            "train": [str(rows / f"texts-{name}-train.jsonl") for name in ("pairs", "labels")],
            "validation": {"source": str(rows / "texts-pairs-held.jsonl")},
            "max_length": LENGTH,
            "packing": True,
        },
        "method": {"kind": "pretrain"},
        "train": {
            "num_train_epochs": 2, "global_batch_size": 16, "micro_batch_size": 8,
            "learning_rate": 2e-3,
        },
        "tracking": {"mlflow": False},
    }  # fmt: skip


def fine_tuning(model: Path, rows: Path, side: str) -> dict[str, Any]:
    """Return the job that fine-tunes a model on preferred answers.

    Args:
        model: The pre-trained model.
        rows: The folder of `write_rows`.
        side: The rows to validate on.
    """
    wanted = [str(rows / f"wanted-{name}-train.jsonl") for name in ("pairs", "labels")]
    held = rows / f"wanted-pairs-{side}.jsonl"
    return _job(model, wanted, held, {"kind": "sft"}, 5e-4, 1)


def preference(model: Path, rows: Path, side: str, setting: Setting) -> dict[str, Any]:
    """Return the job of a method that learns from pairs or from labels.

    Args:
        model: The start model.
        rows: The folder of `write_rows`.
        side: The rows to validate on.
        setting: The method.
    """
    train, held = (rows / f"{setting.rows}-{part}.jsonl" for part in ("train", side))
    return _job(model, [str(train)], held, setting.method, setting.rate, setting.epochs)


def rl(
    model: Path, reward: Path, rows: Path, side: str, settings: tuple[dict[str, Any], float, int]
) -> dict[str, Any]:
    """Return the job of a method that learns from a reward model.

    Args:
        model: The start model.
        reward: The reward model.
        rows: The folder of `write_rows`.
        side: The prompts to validate on.
        settings: The method section, learning rate and steps.
    """
    method, rate, steps = settings
    train, held = (rows / f"prompts-pairs-{part}.jsonl" for part in ("train", side))
    section = {
        **method,
        "reward": {"kind": "model", "source": str(reward), "max_length": 512},
        "rollout": {"max_new_tokens": ANSWER_TOKENS, "temperature": 1.0},
    }
    document = _job(model, [str(train)], held, section, rate, 1)
    document["train"] |= {"max_steps": steps, "micro_batch_size": 16}
    del document["train"]["num_train_epochs"]
    document["evaluate"] = {"every": f"{max(1, steps // 3)} steps"}
    return document


def _job(
    model: Path, train: list[str], held: Path, method: dict[str, Any], rate: float, epochs: float
) -> dict[str, Any]:
    return {
        "name": method["kind"],
        "model": {"source": str(model)},
        "data": {
            "train": train,
            "validation": {"source": str(held)},
            "max_length": LENGTH,
        },
        "method": method,
        "train": {
            "num_train_epochs": epochs, "global_batch_size": 32, "micro_batch_size": 8,
            "learning_rate": rate,
        },
        "tracking": {"mlflow": False},
    }  # fmt: skip
