"""Jobs that are walked on the simulated device: methods, adapters and precisions.

`covering` has few cells, of two layers and two steps, whose waits for the device are counted.
`product` has every method with every kind of adapter in every precision, one layer and one step;
`core` and `rows_in_bf16` are parts of it. `make compatibility-cuda` walks all of it.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.factories import docstring_pairs, make_tiny_model, write_jsonl
from tests.matrix.cells import KINDS

PRECISIONS = ("fp32", "bf16", "fp16")
_WORDS = "abcdefghijklmnop"
_REWARD = {"kind": "regex_count", "pattern": "[aeiou]", "scale": 0.1}
_GROUPS = {
    "num_generations": 2, "beta": 0.05, "reward": _REWARD, "rollout": {"max_new_tokens": 3},
}  # fmt: skip
_TEACHER = {"kind": "distill", "teacher": "MODEL"}
METHODS: dict[str, tuple[dict[str, Any], str]] = {
    "pretrain": ({"kind": "pretrain"}, "texts"),
    "sft": ({"kind": "sft"}, "pairs"),
    "distill": (_TEACHER, "pairs"),
    "distill, top_k": ({**_TEACHER, "top_k": 4}, "pairs"),
    "distill, on_policy": (
        {**_TEACHER, "loss_on": "completion", "on_policy": 1.0, "answer_tokens": 3},
        "pairs",
    ),
    "reward": ({"kind": "reward"}, "preferences"),
    "dpo": ({"kind": "dpo"}, "preferences"),
    "dpo, precompute": ({"kind": "dpo", "precompute": True}, "preferences"),
    "kto": ({"kind": "kto"}, "answers"),
    "orpo": ({"kind": "orpo"}, "preferences"),
    "simpo": ({"kind": "simpo"}, "preferences"),
    "grpo": ({"kind": "grpo", **_GROUPS}, "prompts"),
    "rloo": ({"kind": "rloo", **_GROUPS}, "prompts"),
    "ppo": (
        {"kind": "ppo", "reward": _REWARD, "rollout": {"max_new_tokens": 3, "batch": 2}},
        "prompts",
    ),
}
"""By name: a job's `method`, and its rows."""
ADAPTERS = {name: section for name, section in KINDS.items() if name != "lora"}
LORA = {"kind": "lora", "r": 4}
_FIRST_OF_KIND = {section["kind"]: name for name, section in reversed(KINDS.items())}
EVERY_KIND = {
    "none": None,
    **{kind: KINDS[name] for kind, name in reversed(_FIRST_OF_KIND.items())},
    "qlora": {"kind": "qlora", "r": 4},
}
"""By kind of adapter: a job's `adapter`."""


@dataclass(frozen=True)
class Cell:
    """One combination of method, adapter and precision.

    Attributes:
        method: Key of `METHODS`.
        adapter: `none`, `lora`, or a key of `ADAPTERS`; of `EVERY_KIND` in a short cell.
        precision: `precision` of the job.
        short: True for a model of one layer and one step (three of AdaLoRA).
        checkpointing: True for gradient checkpointing.
    """

    method: str
    adapter: str
    precision: str
    short: bool = False
    checkpointing: bool = False

    @property
    def name(self) -> str:
        """Name of the cell in messages."""
        name = f"{self.method} x {self.adapter} x {self.precision}"
        again = ", computed again" if self.checkpointing else ""
        return f"{name}, short{again}" if self.short else name

    def job(self, home: Path) -> dict[str, Any]:
        """Return the job of the cell.

        Args:
            home: Folder of `write_inputs`.
        """
        method, kind = METHODS[self.method]
        model = str(home / ("small" if self.short else "model"))
        if "teacher" in method:
            method = {**method, "teacher": model}
        data: dict[str, Any] = {"train": str(home / f"{kind}.jsonl")}
        if kind == "prompts":
            data = {"prompts": ["What is str.", "What is list.", "What", "int is"]}
        # AdaLoRA needs a step between its first phase and its last.
        steps = (1, 5) if self.short else (2, 5)
        # Two micro-batches where two fit the time: without an adapter.
        rows_per_step = 4 if self.adapter == "none" and not self.short else 2
        job: dict[str, Any] = {
            "name": "cell",
            "model": {"source": model},
            "data": {**data, "max_length": 48, "workers": 1},
            "method": method,
            "precision": self.precision,
            "train": {
                "max_steps": steps[self.adapter == "adalora"],
                "global_batch_size": rows_per_step, "micro_batch_size": 2,
                "learning_rate": 1e-3, "gradient_checkpointing": self.checkpointing,
            },
            "tracking": {"mlflow": False},
        }  # fmt: skip
        long = {"none": None, "lora": LORA, **ADAPTERS}
        section = (EVERY_KIND if self.short else long)[self.adapter]
        if section is not None:
            job["adapter"] = dict(section)
            if section["kind"] == "compose":
                names = ("small-first", "small-second") if self.short else ("first", "second")
                job["adapter"]["adapters"] = {name: str(home / name) for name in names}
        return job


def covering() -> list[Cell]:
    """Return a cell of every method and of every adapter; precisions and LoRA take turns."""
    pairs = [(method, ("none", "lora")[index % 2]) for index, method in enumerate(METHODS)]
    pairs += [("sft", adapter) for adapter in ADAPTERS]
    cells = [
        Cell(*pair, possible[index % len(possible)])
        for index, pair in enumerate(pairs)
        if (possible := _precisions(*pair))
    ]
    return list(dict.fromkeys([Cell("sft", "none", "fp32"), *cells]))


def product() -> list[Cell]:
    """Return every method with every kind of adapter in every precision, refused ones included.

    Layers are computed again in half of them, so that each precision has both with each adapter.
    """
    return [
        Cell(method, adapter, precision, short=True, checkpointing=sum(places) % 2 == 1)
        for method_place, method in enumerate(METHODS)
        for adapter_place, adapter in enumerate(EVERY_KIND)
        for precision_place, precision in enumerate(PRECISIONS)
        for places in ((method_place, adapter_place, precision_place),)
    ]


_SOFT = ("prompt_tuning", "p_tuning", "prefix_tuning")
_NEXT_TOKEN = ("pretrain", "sft", "distill")
_OTHERS = tuple(name for name in METHODS if METHODS[name][0]["kind"] not in _NEXT_TOKEN)
REFUSED: list[tuple[Container[str], Container[str], Container[str], str]] = [
    (METHODS, ("adalora",), ("fp16",), "adalora reads gradients, which fp16 scales"),
    (_OTHERS, ("adalora",), PRECISIONS, "adalora is for learning the next token"),
    (("reward",), _SOFT, PRECISIONS, "virtual tokens before it are made for the next word"),
    (("ppo",), _SOFT, PRECISIONS, "a soft prompt changes the model before the first step"),
    (("ppo",), ("compose",), PRECISIONS, "composed adapters change the model before the first"),
    (("ppo",), EVERY_KIND, ("fp16",), "ppo needs the range of bf16"),
]
"""Methods, kinds of adapters and precisions that are refused together, and words of the reason."""


def refusals(cell: Cell) -> list[str]:
    """Return words of each reason for which the job of a cell is refused."""
    return [
        words
        for methods, adapters, precisions, words in REFUSED
        if cell.method in methods and cell.adapter in adapters and cell.precision in precisions
    ]


def core() -> list[Cell]:
    """Return a few cells of the product: each kind of adapter, with other methods in turn."""
    methods = ("sft", "dpo", "pretrain", "distill", "orpo", "sft", "pretrain", "simpo", "reward")
    chosen = dict(zip(EVERY_KIND, (*methods, "sft"), strict=True))
    trained = [cell for cell in product() if chosen[cell.adapter] == cell.method]
    allowed = [cell for cell in trained if not refusals(cell)]
    by_adapter = {cell.adapter: cell for cell in allowed if cell.precision != "fp32"}
    return list(by_adapter.values())


def rows_in_bf16() -> list[Cell]:
    """Return the cells in bf16 of the methods that learn from rows, but for QLoRA's."""
    sampled = ("grpo", "rloo", "ppo", "distill, on_policy")
    return [
        cell
        for cell in product()
        if cell.precision == "bf16" and cell.adapter != "qlora" and cell.method not in sampled
    ]


def _precisions(method: str, adapter: str) -> tuple[str, ...]:
    """Return the precisions of a job that are not refused."""
    return PRECISIONS[:2] if "ppo" in method or adapter == "adalora" else PRECISIONS


def write_inputs(home: Path) -> None:
    """Write the model, the rows and the adapters of the cells.

    Args:
        home: Empty folder.
    """
    # Imported here: the cells alone need no torch.
    from tests.matrix.trained_adapter import write_adapter

    make_tiny_model(home / "model")
    make_tiny_model(home / "small", num_hidden_layers=1)
    pairs = docstring_pairs(16)
    write_jsonl(home / "pairs.jsonl", pairs)
    write_jsonl(home / "texts.jsonl", [{"text": " ".join(row.values())} for row in pairs])
    write_jsonl(
        home / "preferences.jsonl",
        [{"prompt": f"Say {w}", "chosen": f"{w} is right", "rejected": f"no {w}"} for w in _WORDS],
    )
    answers = [{"prompt": f"Say {w}", "completion": f"{w} is", "label": w < "i"} for w in _WORDS]
    write_jsonl(home / "answers.jsonl", answers)
    for seed, name in enumerate(("first", "second")):
        write_adapter(home / "model", home / name, seed)
        write_adapter(home / "small", home / f"small-{name}", seed)
