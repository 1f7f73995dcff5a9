"""No adapter is a choice of its own: rows for which the base is best are left to the base."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.factories import make_tiny_model, write_jsonl
from tests.parity.composition_cases import rows
from tests.parity.test_adapters import held_out
from tests.parity.test_composition import expected_of
from tests.run_commands import Run, assert_identical, changed, train_here
from training.config.adapters import Widths
from training.config.load import parse_job
from training.data.collators.sequences import SequenceCollator
from training.data.prepare import prepare
from training.errors import JobError, ModelError
from training.evaluation.member_weights import MemberWeightsMetric
from training.export.formats import adapter_folder
from training.export.merged_folder import merged_folder
from training.report.page import write_report

LAYER = "base_model.model.model.layers.0.self_attn.q_proj"
GREETING = "hello to you"
MEMBERS = ("assent", "refuse")


def greetings(number: int, seed: int) -> list[dict[str, str]]:
    """Return rows of what the base has learned and no adapter has."""
    return [
        {"prompt": row["prompt"].replace("assent", "greet"), "completion": GREETING}
        for row in rows("assent", number, seed)
    ]


class Home:
    """A base that greets, an adapter for each of two other tasks, and a job on all three."""

    def __init__(self, home: Path):
        self.path = home
        scratch = make_tiny_model(home / "scratch")
        self.job: dict[str, Any] = {
            "name": "tiny",
            "model": {"source": str(scratch)},
            "data": {
                "train": str(write_jsonl(home / "greet.jsonl", greetings(192, 1))),
                "max_length": 48, "workers": 1, "validation": "none",
            },
            "method": {"kind": "sft"},
            "train": {
                "max_steps": 40, "global_batch_size": 16, "micro_batch_size": 16,
                "learning_rate": 1e-2,
            },
            "tracking": {"mlflow": False},
        }  # fmt: skip
        self.base = str(train_here(self.job, home / "base").path / "model")
        self.job["model"] = {"source": self.base}
        self.members = {}
        for task in MEMBERS:
            data = {"train": str(write_jsonl(home / f"{task}.jsonl", rows(task, 192, 1)))}
            adapter = {"kind": "lora", "r": 8, "alpha": 16}
            document = changed(self.job, data=data, adapter=adapter)
            self.members[task] = str(train_here(document, home / task).path / "model")
        mixed = [r for t in MEMBERS for r in rows(t, 96, 1)] + greetings(96, 3)
        held = [r for t in MEMBERS for r in rows(t, 32, 2)] + greetings(32, 4)
        self.job["data"] |= {
            "train": str(write_jsonl(home / "mix.jsonl", mixed)),
            "validation": {"source": str(write_jsonl(home / "held.jsonl", held))},
        }
        self.greet = write_jsonl(home / "held-greet.jsonl", greetings(32, 4))
        self.tokenizer = AutoTokenizer.from_pretrained(self.base)

    def composed(self, method: dict[str, Any], **sections: Any) -> dict[str, Any]:
        compose = {"adapters": self.members, "method": method}
        return changed({**self.job, "compose": compose}, **sections)

    def loaded(self, folder: Path | None) -> Any:
        base = AutoModelForCausalLM.from_pretrained(self.base).eval()
        return base if folder is None else PeftModel.from_pretrained(base, str(folder)).eval()

    def loss(self, folder: Path | None, greetings_only: bool, place: Path) -> float:
        """Return the loss on held-out rows, of all tasks or of that of the base."""
        source = {"validation": {"source": str(self.greet)}} if greetings_only else {}
        job = changed(self.job, data=source)
        return held_out(self.loaded(folder), job, self.tokenizer, place)[1]


METHODS: dict[str, dict[str, Any]] = {
    "gate": {"kind": "gate"},
    "gate per sequence": {"kind": "gate", "per": "sequence"},
    "route by classifier": {"kind": "route"},
    "route by centroid": {"kind": "route", "by": "centroid"},
}


CASES = [
    name if name == "route by classifier" else pytest.param(name, marks=pytest.mark.slow)
    for name in METHODS
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("none"))


def method_of(home: Home, name: str, allow_none: bool) -> dict[str, Any]:
    method = {**METHODS[name], "allow_none": allow_none}
    if allow_none and name == "route by centroid":
        method["examples"] = {"none": str(home.path / "greet.jsonl")}
    return method


@pytest.fixture(scope="module")
def trained(home: Home) -> Callable[[str, bool], Run]:
    """Return the run of a method, with or without the choice of no adapter."""
    made: dict[tuple[str, bool], Run] = {}

    def run_of(name: str, allow_none: bool) -> Run:
        if (name, allow_none) not in made:
            document = home.composed(method_of(home, name, allow_none))
            made[name, allow_none] = train_here(document, home.path / f"{name}-{allow_none}")
        return made[name, allow_none]

    return run_of


def weights_on(home: Home, run: Run, task: str, place: Path) -> dict[str, float]:
    """Return the mean weight of each choice on the answers to held-out rows of one task."""
    wanted = greetings(32, 4) if task == "greet" else rows(task, 32, 2)
    job = parse_job(
        changed(home.job, data={"validation": {"source": str(write_jsonl(place, wanted))}}), "test"
    )
    table = prepare(
        job, home.tokenizer, cache_dir=home.path / "cache", run_dir=home.path / "data"
    ).validation
    assert table is not None
    batch = SequenceCollator(home.tokenizer.pad_token_id)([table[i] for i in range(len(table))])
    model = home.loaded(run.path / "model")
    metric = MemberWeightsMetric(model)
    with torch.no_grad(), metric.recording():
        sums = metric.measure_batch(_WithLogProbs(model), batch)
    return metric.aggregate(sums)


class _WithLogProbs:
    """A model called as the trainer calls it; only the recorded weights are read."""

    def __init__(self, model: Any):
        self.model = model

    def __call__(self, *, labels: Any, next_token_log_probs: bool, top1: bool, **named: Any) -> Any:
        self.model(**named)
        return SimpleNamespace(log_probs=torch.zeros(1), top1=torch.zeros(1))


@pytest.mark.parametrize("name", CASES)
def test_rows_that_the_base_knows_are_left_to_it(
    home: Home, trained: Callable[[str, bool], Run], tmp_path: Path, name: str
) -> None:
    run, without = trained(name, True), trained(name, False)
    kept = home.loss(run.path / "model", True, tmp_path / "kept")
    lost = home.loss(without.path / "model", True, tmp_path / "lost")
    base = home.loss(None, True, tmp_path / "base")
    assert base < 0.1, "the base has not learned its task"
    assert kept - base < 0.4 * (lost - base), (base, kept, lost)
    everything = [home.loss(r.path / "model", False, tmp_path / "all") for r in (run, without)]
    assert everything[0] < everything[1] - 0.1

    weights = {t: weights_on(home, run, t, tmp_path / f"{t}.jsonl") for t in (*MEMBERS, "greet")}
    assert all(sum(own.values()) == pytest.approx(1) for own in weights.values())
    # Each task's rows get its adapter, those of the base none: a router nearly always, while the
    # weights of a gate change gradually.
    highest = {task: max(own, key=own.__getitem__) for task, own in weights.items()}
    assert highest == {"assent": "assent", "refuse": "refuse", "greet": "none"}, weights
    assert not name.startswith("route") or weights["greet"]["none"] > 0.8, weights
    # The mean of the three tasks, whose answers have about as many tokens, is in the run folder.
    measured = json.loads((run.path / "evaluation.json").read_text())["after"]["members"]
    assert measured.keys() == {*MEMBERS, "none"}
    assert measured["none"] == pytest.approx(sum(w["none"] for w in weights.values()) / 3, abs=0.1)


def test_the_report_shows_how_often_no_adapter_is_used(
    trained: Callable[[str, bool], Run],
) -> None:
    run = trained("route by classifier", True)
    write_report(run.path)
    page = (run.path / "report.html").read_text()
    share = json.loads((run.path / "evaluation.json").read_text())["after"]["members"]["none"]
    assert f"<dt>none</dt><dd>{100 * share:.1f} %</dd>" in page.replace("\u202f", " ")


@pytest.mark.parametrize("name", CASES)
def test_a_layer_adds_what_the_formula_of_its_choices_gives(
    home: Home, trained: Callable[[str, bool], Run], name: str
) -> None:
    """The entry of no adapter takes its part of the softmax, and adds nothing."""
    run = trained(name, True)
    layer: Any = home.loaded(run.path / "model").get_submodule(LAYER)
    x = torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        added = layer(x) - layer.base_layer(x)
    expected = expected_of(name if name != "gate" else "gate per token", run.weights, x)
    torch.testing.assert_close(added, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_it_resumes_counts_and_is_exported_apart(
    home: Home, trained: Callable[[str, bool], Run], tmp_path: Path, name: str
) -> None:
    run = trained(name, True)
    document = home.composed(method_of(home, name, True))
    widths = Widths(layers=2, hidden=32, queries=32, keys=16, intermediate=88)
    learned = [w.numel() for n, w in run.weights.items() if "_learned." in n]
    adapter = parse_job(document, "test").adapter
    assert adapter.num_trained(widths) == sum(learned)
    assert "changes logits" in adapter_folder(run.path / "model", tmp_path / "apart")
    with pytest.raises(ModelError, match=r"cannot be merged .*depend on the input"):
        merged_folder(run.path / "model", tmp_path / "out")
    if learned:
        halves = changed(document, checkpoint={"every": "20 steps"})
        again = train_here(halves, tmp_path / "run")
        shutil.rmtree(again.path / "model")
        shutil.rmtree(again.path / "checkpoints/checkpoint-40")
        assert_identical(train_here(halves, tmp_path / "run"), run)


def test_what_no_adapter_needs_is_said(home: Home) -> None:
    with pytest.raises(JobError, match=r"compose\.method\.examples\.none: is required by allow_n"):
        parse_job(home.composed({**METHODS["route by centroid"], "allow_none": True}), "test")
    named = {"adapters": {"none": "x", "b": "y"}, "method": {"kind": "gate", "allow_none": True}}
    with pytest.raises(JobError, match=r"compose\.adapters\.none: with allow_none this is the nam"):
        parse_job({**home.job, "compose": named}, "test")
    unknown = {**METHODS["route by centroid"], "examples": {"none": "x.jsonl"}}
    with pytest.raises(JobError, match=r"examples\.none: there is no such adapter"):
        parse_job(home.composed(unknown), "test")
