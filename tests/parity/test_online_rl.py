"""GRPO and RLOO: the same answers and steps however a step is cut, wherever a run stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, GenerationMixin

from tests.run_commands import Run, assert_identical, changed, train_here
from tests.two_node import train_in_pair
from training.errors import DataError, GuardError, JobError, ModelError
from training.methods.common import online_rl_builder, reference_model
from training.rewards import aggregate

KINDS = ["grpo", "rloo"]
STEPS = 6


def job_of(kind: str, model: Path, **sections: Any) -> dict[str, Any]:
    """Eight prompts, four answers to each of two of them a step; letters are rewarded."""
    job = {
        "name": kind,
        "model": {"source": str(model)},
        "data": {
            "prompts": ["What is str.", "What is list.", "What", "int is", "The", "So", "a", "b"],
            "max_length": 64,
            "workers": 1,
        },
        "method": {
            "kind": kind,
            "num_generations": 4,
            "reward": {"kind": "regex_count", "pattern": "[aeiou]", "scale": 0.1},
            "beta": 0.05,
            "rollout": {"max_new_tokens": 12},
        },
        "train": {
            "max_steps": STEPS,
            "global_batch_size": 8,
            "micro_batch_size": 8,
            "learning_rate": 3e-3,
            "warmup": 0,
        },
        "checkpoint": {"every": "2 steps", "keep": 9},
        "tracking": {"mlflow": False},
    }
    return changed(job, **sections)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Any:
    done: dict[str, Run] = {}

    def run(kind: str) -> Run:
        if kind not in done:
            done[kind] = train_here(job_of(kind, tiny_model), tmp_path_factory.mktemp(kind))
        return done[kind]

    return run


SAMPLED = ("reward", "answer_tokens", "ended", "tokens", "supervised_tokens", "repetition")


@pytest.mark.parametrize("kind", KINDS)
def test_accumulation_changes_nothing(
    whole: Any, tiny_model: Path, tmp_path: Path, kind: str
) -> None:
    parts = train_here(job_of(kind, tiny_model, train={"micro_batch_size": 2}), tmp_path)
    for name in SAMPLED:
        mine, other = ([step[name] for step in run.steps] for run in (parts, whole(kind)))
        assert mine == pytest.approx(other, abs=1e-9), name
    assert parts.losses == pytest.approx(whole(kind).losses, abs=1e-5)
    assert parts.grad_norms == pytest.approx(whole(kind).grad_norms, rel=1e-3)
    assert parts.samples == whole(kind).samples


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_is_the_uninterrupted_one(
    whole: Any, tiny_model: Path, tmp_path: Path, kind: str
) -> None:
    at_once = whole(kind)
    cut = tmp_path / "cut"
    shutil.copytree(at_once.path, cut)
    shutil.rmtree(cut / "model")
    for number in range(3, STEPS + 1):
        shutil.rmtree(cut / f"checkpoints/checkpoint-{number}", ignore_errors=True)
    resumed = train_here(job_of(kind, tiny_model), cut)
    assert_identical(resumed, at_once)
    assert resumed.samples == at_once.samples
    for name in ("loss", *SAMPLED):
        assert [s[name] for s in resumed.steps] == [s[name] for s in at_once.steps], name


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_takes_whole_groups(whole: Any, kind: str) -> None:
    seen = []
    for step in whole(kind).samples:
        assert len(step["ids"]) == 8
        assert step["ids"][:4] == step["ids"][:1] * 4
        assert step["ids"][4:] == step["ids"][4:5] * 4
        seen += step["ids"][::4]
    assert sorted(seen[:8]) == sorted(f"prompts.jsonl:{i}" for i in range(1, 9)), "one epoch"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("adapter", [{"kind": "lora", "r": 4}, {"kind": "ia3"}])
def test_an_adapter_has_what_training_starts_from_as_reference(
    tiny_model: Path, tmp_path: Path, kind: str, adapter: dict[str, Any]
) -> None:
    run = train_here(job_of(kind, tiny_model, adapter=adapter, train={"max_steps": 3}), tmp_path)
    kl = [step["kl"] for step in run.steps]
    assert kl[0] == 0
    assert kl[-1] != 0, "RLOO's estimate can be negative"
    assert sorted(p.name for p in (run.path / "model").glob("adapter*")) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


@pytest.mark.parametrize("beta", [0.0, 0.05])
def test_a_new_adapter_is_not_copied(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beta: float
) -> None:
    """TRL's RLOO copies it; the model without the adapter is the same reference."""
    built: list[Any] = []
    attach = online_rl_builder.attach_reference
    check = online_rl_builder.check_context
    monkeypatch.setattr(
        online_rl_builder,
        "attach_reference",
        lambda trainer, temperature: built.append(trainer.model) or attach(trainer, temperature),
    )
    monkeypatch.setattr(
        online_rl_builder,
        "check_context",
        lambda setup, model, tokens: built.append(model) or check(setup, model, tokens),
    )
    adapter = {"kind": "lora", "r": 4}
    job = job_of("rloo", tiny_model, adapter=adapter, method={"beta": beta}, train={"max_steps": 1})
    train_here(job, tmp_path)
    assert len(built) == (2 if beta else 1)
    assert {name for model in built for name in model.peft_config} == {"default"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_reward_rises(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    train = {"max_steps": 16, "learning_rate": 2e-2, "global_batch_size": 32}
    train["micro_batch_size"] = 32
    job = job_of(kind, tiny_model, train=train, method={"beta": 0.0})
    rewards = [step["reward"] for step in train_here(job, tmp_path).steps]
    assert sum(rewards[-4:]) > 1.5 * sum(rewards[:4]), rewards


def test_held_out_prompts_are_answered(tiny_model: Path, tmp_path: Path) -> None:
    job = job_of("grpo", tiny_model, data={"validation": {"split": "25%"}})
    job["train"].pop("micro_batch_size")  # found out, as most people leave it
    run = train_here(job, tmp_path)
    assert (run.path / "probe.json").exists()
    measured = json.loads((run.path / "evaluation.json").read_text())
    for side in ("before", "after"):
        found = measured[side]["validation"]
        assert found["loss"] == -found["reward"]
        assert found["rows"] == 2
        assert found["reward_regex_count"] == found["reward"]
        assert 0 < found["answer_tokens"] <= 12


# --- what stops a run ----------------------------------------------------------------------------


def test_a_reward_that_never_tells_answers_apart_stops(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregate, "PATIENCE", 4)
    flat = {"reward": {"kind": "regex_count", "pattern": "no such words"}}
    with pytest.raises(GuardError, match=r"in each of the last 4 steps.*the same reward, now 0"):
        train_here(job_of("grpo", tiny_model, method=flat), tmp_path)


def test_a_reference_that_is_another_model_stops_the_run(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = reference_model.load_reference_model

    def wrong(setup: Any) -> Any:
        model = right(setup)
        model.get_input_embeddings().weight.data *= 1.05
        return model

    monkeypatch.setattr(reference_model, "load_reference_model", wrong)
    with pytest.raises(GuardError, match="the reference differs from the model before the first"):
        train_here(job_of("grpo", tiny_model), tmp_path)


def test_prompts_and_answers_that_do_not_fit_are_explained(
    tiny_model: Path, tmp_path: Path
) -> None:
    method = {"rollout": {"max_new_tokens": 255}}
    with pytest.raises(ModelError, match=r"do not fit the model's context of 256.*at most 1"):
        train_here(job_of("grpo", tiny_model, method=method), tmp_path)


def test_prompts_that_are_all_too_long_are_explained(tiny_model: Path, tmp_path: Path) -> None:
    data = {"prompts": ["word " * 40, "word " * 50], "max_length": 16}
    with pytest.raises(DataError, match=r"all 2 rows do not fit data\.max_length 16.*needs \d+"):
        train_here(job_of("grpo", tiny_model, data=data), tmp_path)


def test_a_step_must_hold_whole_groups(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"multiple of method\.num_generations"):
        train_here(job_of("grpo", tiny_model, method={"num_generations": 3}), tmp_path)


@pytest.mark.slow
def test_two_processes_learn_and_resume(tiny_model: Path, tmp_path: Path) -> None:
    """Each process samples answers of its own; groups straddle them; a resume is exact."""
    jobs = {
        f"{kind}-{zero}": job_of(
            kind, tiny_model, train={"micro_batch_size": 2}, sharding={"zero": zero}
        )
        for kind in KINDS
        for zero in (0, 3)
    }
    runs = train_in_pair(jobs, tmp_path / "at-once")
    for name, run in runs.items():
        assert len(run.losses) == STEPS, name
        assert all(len(step["ids"]) == 8 for step in run.samples), name
        cut = Path(shutil.copytree(run.path, tmp_path / "resumed" / name))
        for number in range(3, STEPS + 1):
            shutil.rmtree(cut / f"checkpoints/checkpoint-{number}", ignore_errors=True)
        shutil.rmtree(cut / "model")
    for name, resumed in train_in_pair(jobs, tmp_path / "resumed").items():
        assert_identical(resumed, runs[name])
        # Two runs of a step take different times: the first two steps were not trained again.
        assert resumed.steps[:2] == runs[name].steps[:2], name
        assert resumed.steps[2:] != runs[name].steps[2:], name


TOOL_TEMPLATE = (
    "{% if tools %}tools:{% for tool in tools %} {{ tool | tojson }}{% endfor %}\n{% endif %}"
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def tool(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    function = {"name": name, "description": f"The {name}.", "parameters": parameters}
    return {"type": "function", "function": function}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_sampled_from_prompts_with_their_tools(
    tiny_model: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"prompt": [{"role": "user", "content": f"What is {word}?"}], "tools": [tool(name)]}
        for word, name in (("str", "weather"), ("list", "clock"), ("int", "map"), ("set", "news"))
    ]
    rows.append({"prompt": [{"role": "user", "content": "What is it?"}]})
    prompts, template = tmp_path / "prompts.jsonl", tmp_path / "tools.jinja"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    template.write_text(TOOL_TEMPLATE)
    seen: list[tuple[int, ...]] = []
    generate = GenerationMixin.generate

    def recorded(
        self: Any, *arguments: Any, input_ids: Any, attention_mask: Any, **rest: Any
    ) -> Any:
        pairs = zip(input_ids, attention_mask, strict=True)
        seen.extend(tuple(ids[mask.bool()].tolist()) for ids, mask in pairs)
        return generate(
            self, *arguments, input_ids=input_ids, attention_mask=attention_mask, **rest
        )

    monkeypatch.setattr(GenerationMixin, "generate", recorded)
    job = changed(
        job_of(kind, tiny_model),
        model={"chat_template": str(template)},
        method={"rollout": {"max_new_tokens": 4}},
        train={"max_steps": 3},
    )
    job["data"] = {"train": str(prompts), "max_length": 220, "workers": 1}
    run = train_here(job, tmp_path / "run")
    assert len(run.steps) == 3
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    expected = {
        tuple(
            tokenizer.apply_chat_template(
                row["prompt"],
                tools=row.get("tools"),
                chat_template=TOOL_TEMPLATE,
                add_generation_prompt=True,
                return_dict=False,
            )
        )
        for row in rows
    }
    bos = tokenizer.bos_token_id
    without_bos = {tuple(token for token in ids if token != bos) for ids in seen}
    assert without_bos == {tuple(token for token in ids if token != bos) for ids in expected}
    texts = [tokenizer.decode(ids) for ids in seen]
    assert sum('"name": "weather"' in text for text in texts) >= 4, "each of its group's answers"
    assert sum("tools:" not in text for text in texts) >= 4, "rows without tools have none"
