"""Static shapes change no loss, and a run has at most two shapes, evaluations included.

What is compiled on Trainium is compiled once per shape. Here every call of a linear layer is
recorded on the CPU, and so is every operation of a forward and a backward pass.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from tests.factories import docstrings, make_tiny_model, write_jsonl
from tests.run_commands import Run, changed, train_here
from training.config.load import parse_job
from training.config.static_shapes import StaticShapes, static_shapes
from training.data.collators.sequences import SequenceCollator
from training.errors import GuardError, JobError
from training.guards.recompilations import Recompilations
from training.models.fused_log_probs import add_next_token_log_probs
from training.models.packed_attention import enable_masked_attention

ROWS = 61
"""Not a multiple of the batch: the last step and the last held-out batch are incomplete."""
METHODS: dict[str, dict[str, Any]] = {
    "pretrain": {"method": {"kind": "pretrain"}},
    "sft": {"method": {"kind": "sft"}},
    "sft, packed": {"method": {"kind": "sft"}, "data": {"packing": True}},
    "sft, KL to the base": {"method": {"kind": "sft"}, "train": {"kl_to_base": 0.5}},
    "sft, forgetting": {"method": {"kind": "sft"}},
    "distill": {"method": {"kind": "distill", "soft_weight": 0.5}},
    "distill, cached": {"method": {"kind": "distill", "top_k": 4}},
    "distill, calibrated": {"method": {"kind": "distill", "calibrate": True}},
    "reward": {"method": {"kind": "reward"}},
    "dpo": {"method": {"kind": "dpo"}},
    "dpo, precomputed": {"method": {"kind": "dpo", "precompute": True}},
    "dpo, LoRA": {"method": {"kind": "dpo"}, "adapter": {"kind": "lora", "r": 4}},
    "kto": {"method": {"kind": "kto"}},
    "orpo": {"method": {"kind": "orpo"}},
    "simpo": {"method": {"kind": "simpo"}},
}


def answers(number: int) -> list[tuple[str, str]]:
    """Return questions and answers; most answers are short, some fill the longest row."""
    texts = list(docstrings())[:number]
    return [
        (f"What is {name}?", " ".join((text.split() * 20)[: 5 + 37 * (index % 3)]))
        for index, (name, text) in enumerate(texts)
    ]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of rows, by the kind of row."""
    folder, pairs = tmp_path_factory.mktemp("rows"), answers(ROWS)
    kinds: dict[str, list[Any]] = {
        "text": [{"text": answer} for _, answer in pairs],
        "dialogue": [{"prompt": prompt, "completion": answer} for prompt, answer in pairs],
        "preference": [
            {"prompt": prompt, "chosen": answer, "rejected": answer[: len(answer) // 2]}
            for prompt, answer in pairs
        ],
        "unpaired": [
            {"prompt": prompt, "completion": answer, "label": index % 2 == 0}
            for index, (prompt, answer) in enumerate(pairs)
        ],
    }
    return {kind: write_jsonl(folder / f"{kind}.jsonl", data) for kind, data in kinds.items()}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("teacher") / "model", hidden_size=48)


@pytest.fixture
def job_of(
    tiny_model: Path, rows: dict[str, Path], teacher: Path
) -> Callable[[str], dict[str, Any]]:
    kinds = {"pretrain": "text", "kto": "unpaired"}
    kinds |= dict.fromkeys(("reward", "dpo", "orpo", "simpo"), "preference")

    def job(name: str) -> dict[str, Any]:
        changes = METHODS[name]
        method = dict(changes["method"])
        if method["kind"] == "distill":
            method["teacher"] = str(teacher)
        document = {
            "name": "static",
            "model": {"source": str(tiny_model)},
            "data": {
                "train": str(rows[kinds.get(method["kind"], "dialogue")]),
                "max_length": 200,
                "workers": 1,
                "validation": {"split": "20%"},
                **changes.get("data", {}),
            },
            "method": method,
            "train": {
                "num_train_epochs": 1,
                "global_batch_size": 8,
                "micro_batch_size": 4,
                "learning_rate": 1e-3,
                **changes.get("train", {}),
            },
            "evaluate": {"every": "3 steps"},
            "tracking": {"mlflow": False},
            **({"adapter": changes["adapter"]} if "adapter" in changes else {}),
        }
        if name == "sft, forgetting":
            document["evaluate"]["forgetting"] = str(rows["text"])
        return document

    return job


@pytest.fixture
def linear_shapes(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[Any, set[Any]]]:
    """Shapes of the inputs of linear layers, by the size of the layer.

    The head has two uses: inside the model, on [batch, length], and in tiles, on [tokens].
    """
    shapes: dict[Any, set[Any]] = defaultdict(set)
    linear = torch.nn.functional.linear

    def recording(given: torch.Tensor, weight: torch.Tensor, bias: Any = None) -> torch.Tensor:
        shapes[*weight.shape, given.ndim].add(tuple(given.shape[:-1]))
        return linear(given, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", recording)
    yield shapes


def evaluations(run: Run) -> list[Any]:
    measured = json.loads((run.path / "evaluation.json").read_text())
    return [
        {name: value for name, value in measured[when][part].items() if value is not None}
        for when in ("before", "after")
        for part in measured[when]
    ]


def few_shapes(shapes: dict[Any, set[Any]]) -> None:
    """Assert that no layer has more than two shapes; the score of a reward model has one."""
    assert shapes
    for size, inputs in shapes.items():
        assert len(inputs) <= 2, (size, sorted(inputs))


FAST = ("sft, packed", "distill")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in METHODS]
)
def test_same_losses_by_two_shapes(
    name: str,
    job_of: Callable[[str], dict[str, Any]],
    linear_shapes: dict[Any, set[Any]],
    tmp_path: Path,
) -> None:
    job = job_of(name)
    plain = train_here(job, tmp_path / "plain")
    if name != "sft, packed":
        assert max(map(len, linear_shapes.values())) > 2, "the rows vary too little"
    linear_shapes.clear()
    static = train_here(changed(job, train={"static_shapes": True}), tmp_path / "static")
    few_shapes(linear_shapes)
    assert static.losses == pytest.approx(plain.losses, rel=1e-4, abs=1e-6)
    assert [step["supervised_tokens"] for step in static.steps] == [
        step["supervised_tokens"] for step in plain.steps
    ]
    for ours, theirs in zip(evaluations(static), evaluations(plain), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    other = plain.weights
    for tensor, weight in static.weights.items():
        assert (weight - other[tensor]).abs().max() < 2e-4, tensor


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.long
def test_two_shapes_in_200_steps(
    name: str,
    job_of: Callable[[str], dict[str, Any]],
    linear_shapes: dict[Any, set[Any]],
    tmp_path: Path,
) -> None:
    job = job_of(name)
    train = {"static_shapes": True, "max_steps": 200, "learning_rate": 1e-4}
    job = changed(job, train=train, evaluate={"every": "50 steps"})
    del job["train"]["num_train_epochs"]
    run = train_here(job, tmp_path / "run")
    assert len(run.steps) == 200
    few_shapes(linear_shapes)


def test_a_job_for_trainium_is_rehearsed_with_its_shapes(
    document: dict[str, Any], linear_shapes: dict[Any, set[Any]], tmp_path: Path
) -> None:
    job = changed(document, data={"max_length": 200}, train={"max_steps": 4})
    on_gpu = {"resources": {"instance": "ml.p4d.24xlarge"}}
    gpu = train_here(changed(job, data={"packing": True}, **on_gpu), tmp_path / "gpu")
    linear_shapes.clear()
    on_trainium = {"resources": {"instance": "ml.trn2.48xlarge"}}
    trainium = train_here(changed(job, **on_trainium), tmp_path / "trainium")
    bodies = {shape for shapes in linear_shapes.values() for shape in shapes if len(shape) == 2}
    assert bodies == {(8, 256)}
    assert trainium.losses == pytest.approx(gpu.losses, abs=1e-4)


# --- one pass -----------------------------------------------------------------------------------


class Operations(TorchDispatchMode):
    """Operations of the tensor library, with the shapes of their tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[Any] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        flat = torch.utils._pytree.tree_leaves((args, result))
        shapes = tuple(tuple(t.shape) for t in flat if isinstance(t, torch.Tensor))
        self.seen.add((str(function), shapes))
        return result


def row(documents: list[list[int]], supervised_from: int = 1) -> dict[str, Any]:
    labels = [
        token if place >= supervised_from else -100
        for document in documents
        for place, token in enumerate(document)
    ]
    return {
        "input_ids": [token for document in documents for token in document],
        "labels": labels,
        "seq_lengths": [len(document) for document in documents],
        "ids": [str(index) for index in range(len(documents))],
    }


def documents(*lengths: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(3, 300, (size,), generator=generator).tolist() for size in lengths]


@pytest.mark.parametrize("packed", [False, True])
def test_every_operation_has_the_same_shapes_whatever_the_rows(
    tiny_model: Path, packed: bool
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    if packed:
        enable_masked_attention(model)
    add_next_token_log_probs(model, all_positions=True)
    collate = SequenceCollator(0, packed=packed, max_length=128, shapes=StaticShapes((128,)))
    batches = (
        [row(documents(100), 7), row(documents(33), 30)],
        [row(documents(60, 9, 4) if packed else documents(60)), collate.padding_example()],
    )
    passes = []
    for rows in batches:
        batch = collate(rows)
        with Operations() as operations:
            outputs = model(**batch, next_token_log_probs=True, top1=True)
            outputs.log_probs.sum().backward()
        model.zero_grad()
        passes.append(operations.seen)
    assert len(passes[0]) > 50
    assert passes[0] ^ passes[1] == set()


def test_masked_documents_are_each_alone(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    alone = [
        model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
        for tokens in documents(17, 5, 23, 1, 9)
    ]
    enable_masked_attention(model)
    collate = SequenceCollator(0, packed=True, max_length=64, shapes=StaticShapes((128,)))
    batch = collate([row(documents(17, 5, 23, 1, 9))])
    assert batch["input_ids"].shape == (1, 128)
    packed = model(
        input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False
    ).logits[0]
    assert (packed[:55] - torch.cat(alone)).abs().max() < 1e-5


# --- who decides --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "device", "packing", "lengths"),
    [
        (None, "cpu", False, None),
        (None, "cuda", False, None),
        (None, "neuron", False, (512, 1024)),
        (None, "neuron", True, (1024,)),
        (True, "cuda", False, (512, 1024)),
        (False, "cuda", False, None),
    ],
)
def test_the_device_decides_unless_the_job_does(
    document: dict[str, Any], wanted: bool | None, device: str, packing: bool, lengths: Any
) -> None:
    train = {} if wanted is None else {"static_shapes": wanted}
    job = parse_job(
        changed(document, train=train, data={"max_length": 1000, "packing": packing}), "test"
    )
    shapes = static_shapes(job, device)  # type: ignore[arg-type]  # a job without stages
    assert (None if shapes is None else shapes.lengths) == lengths


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"method": {"kind": "grpo", "reward": [{"kind": "repetition"}]}}, "grpo samples"),
        ({"method": {"kind": "distill", "teacher": "x", "loss_on": "completion", "on_policy": 0.5}},
         "distill samples"),
        ({"data": {"packing": True}, "model": {"attention": "flash_attention_2"},
          "precision": "bf16"}, "flash_attention_2 gets"),
    ],
)  # fmt: skip
def test_what_has_no_static_shapes_is_refused(
    document: dict[str, Any], sections: dict[str, Any], said: str
) -> None:
    sections = dict(sections)
    if "method" in sections:
        document = {**document, "method": sections.pop("method")}
    job = changed(document, train={"static_shapes": True}, **sections)
    with pytest.raises(JobError) as caught:
        parse_job(job, "test")
    problems = [p for p in caught.value.problems if p.path == "train.static_shapes"]
    assert [said in problem.message for problem in problems] == [True]


# --- the guard ----------------------------------------------------------------------------------


def test_a_third_shape_stops_the_run(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Shapes that follow the rows, as they did before they were static.
    monkeypatch.setattr(StaticShapes, "pad_to", lambda self, longest: longest)
    with pytest.raises(GuardError, match=r"input of the model has had 3 shapes \(\[8, \d+\], .*"):
        train_here(changed(document, train={"static_shapes": True}), tmp_path / "run")


def test_rows_of_the_head_are_counted_too(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    add_next_token_log_probs(model)
    guard = Recompilations()
    guard.on_start(model, 0)
    ids = torch.randint(3, 300, (2, 16))
    with pytest.raises(GuardError, match=r"input of the head has had 3 shapes"):
        for supervised in (3, 5, 7):
            labels = ids.clone()
            labels[:, supervised:] = -100
            model(input_ids=ids, labels=labels, next_token_log_probs=True)
    assert guard.seen["model"] == {(2, 16)}


def test_generation_is_not_counted(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    guard = Recompilations()
    guard.on_start(model, 0)
    model.generate(torch.randint(3, 300, (1, 4)), max_new_tokens=6, do_sample=False)
    assert guard.seen["model"] == set()
