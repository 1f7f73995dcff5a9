"""Everything wrong with a job file is said at once, each with the path, the value and the fix."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from tests.run_commands import changed
from training.config import Job, Pipeline, load_job
from training.config.base import ConfigSection
from training.config.load import parse_job
from training.errors import JobError


def problems(document: Any) -> dict[str, str]:
    """Return what is said about a job, by path."""
    with pytest.raises(JobError) as caught:
        parse_job(document, "job.yaml")
    assert caught.value.exit_code == 2
    return {problem.path: str(problem) for problem in caught.value.problems}


def test_the_least_job_is_fine(minimal: dict[str, Any]) -> None:
    job = parse_job(minimal, "job.yaml")
    assert isinstance(job, Job)
    assert job.train.learning_rate == 2e-5
    tuned = parse_job({**minimal, "adapter": {"kind": "lora"}}, "job.yaml")
    assert isinstance(tuned, Job)
    assert tuned.train.learning_rate == 2e-4


def test_all_at_once(minimal: dict[str, Any]) -> None:
    found = problems(
        {
            **minimal,
            "name": "-bad-",
            "train": {"lr": 1e-4, "global_batch_size": 0, "optimizer": "adamw2"},
            "data": {"train": "x", "packing": "maybe", "max_length": 2},
            "adapter": {"kind": "lorra"},
            "precison": "bf16",
            "method": {"kind": "sft", "loss_on": "user"},
        }
    )
    assert found.keys() == {
        "name",
        "train.lr",
        "train.global_batch_size",
        "train.optimizer",
        "data.packing",
        "data.max_length",
        "adapter.kind",
        "precison",
        "method.loss_on",
    }


@pytest.mark.parametrize(
    ("section", "key", "meant"),
    [
        ("train", "lr", "learning_rate"),
        ("train", "epochs", "num_train_epochs"),
        ("train", "learning_rat", "learning_rate"),
        ("train", "batch_size", "global_batch_size"),
        ("train", "per_device_train_batch_size", "micro_batch_size"),
        ("train", "warmup_ratio", "warmup"),
        ("data", "max_seq_length", "max_length"),
        ("data", "packed", "packing"),
        ("model", "model_name_or_path", "source"),
        ("model", "attn_implementation", "attention"),
        ("sharding", "zero_stage", "zero"),
        ("checkpoint", "save_total_limit", "keep"),
        ("evaluate", "eval_steps", "every"),
        ("resources", "process", "processes"),
        ("guards", "update_check", "update_check_after"),
    ],
)
def test_did_you_mean(minimal: dict[str, Any], section: str, key: str, meant: str) -> None:
    found = problems(changed(minimal, **{section: {**minimal.get(section, {}), key: 1}}))
    assert f"Did you mean {meant}?" in found[f"{section}.{key}"]
    assert "(got 1)" in found[f"{section}.{key}"]


@pytest.mark.parametrize(
    ("adapter", "path", "words"),
    [
        ({"kind": "lora", "lora_alpha": 3}, "adapter.lora_alpha", "Did you mean alpha?"),
        ({"kind": "lora", "rank": 3}, "adapter.rank", "Did you mean r?"),
        ({"kind": "qlora", "quant_typ": "nf4"}, "adapter.quant_typ", "Did you mean quant_type?"),
        ({"kind": "lorra"}, "adapter.kind", "Did you mean lora?"),
        ({"kind": "pissa"}, "adapter.kind", "Use kind lora with init: pissa"),
        ({"kind": "qlora", "init": "pissa"}, "adapter.init", "which a 4-bit base does not have"),
        ({"kind": "qlora", "init": "olora"}, "adapter.init", "which a 4-bit base does not have"),
        ({"kind": "lora", "init": "orthogonal", "r": 5}, "adapter.r", "must be even"),
        ({"kind": "lora", "init": "eva"}, "adapter.init", "the activations of training rows"),
        ({"kind": "lora", "init": "loftq"}, "adapter.init", "changes the quantized base"),
        ({"kind": "lora", "init": "pissa_niter_4"}, "adapter.init", "write pissa"),
        ({"kind": "lora", "init": "gausian"}, "adapter.init", "Did you mean gaussian?"),
        ({"kind": "lora", "init": "pissa", "use_dora": True}, "adapter.init", "Leave one out"),
        ({"kind": "adalora", "init_r": 8}, "adapter.init_r", "must be above adapter.r"),
        ({"kind": "dora"}, "adapter.kind", "Use kind lora with use_dora: true"),
        ({"r": 3}, "adapter.kind", "is required"),
        ({"kind": "lora", "r": 0}, "adapter.r", "greater than 0"),
        ({"kind": "lora", "dropout": 1.0}, "adapter.dropout", "less than 1"),
        ({"kind": "lora", "bias": "some"}, "adapter.bias", "Choose from none, all, lora_only"),
    ],
)
def test_inside_a_union(
    minimal: dict[str, Any], adapter: dict[str, Any], path: str, words: str
) -> None:
    found = problems({**minimal, "adapter": adapter})
    assert found.keys() == {path}
    assert words in found[path]


def sections(
    model: type[BaseModel],
    path: tuple[str, ...] = (),
    inside: frozenset[type[BaseModel]] = frozenset(),
) -> Iterator[tuple[str, ...]]:
    """Yield the path of every section that a job can have, one within itself left out."""
    yield path
    for name, field in model.model_fields.items():
        for part in _models(field.annotation):
            if part not in inside:
                yield from sections(part, (*path, name), inside | {part})


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


_PRICE = {"input": 1, "output": 1}
_JUDGE = {"kind": "openai", "url": "http://localhost/v1", "model": "m", "price": _PRICE}
FULL: dict[str, Any] = {
    "name": "full",
    "model": {
        "source": "scratch",
        "scratch": {
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "vocab_size": 300,
        },
        "freeze": {"layers": 1},
    },
    "data": {
        "train": [{"source": "rows.jsonl"}],
        "validation": {"split": "5%", "source": {"source": "held.jsonl"}},
        "replay": {"source": {"source": "general.txt"}, "share": "10%"},
    },
    "method": {"kind": "sft"},
    "adapter": {"kind": "lora"},
    "train": {"early_stopping": {"patience": 3}},
    "evaluate": {
        "forgetting": {"source": "general.txt"},
        "every": "5 steps",
        "samples": [{"prompt": "What?"}],
        "safety": {"redteam": {}, "judge": {**_JUDGE, "price": {**_PRICE}}},
    },
}


# A method that has the section, where the one of FULL has not.
_REWARDED = {"kind": "grpo", "reward": [{"kind": "regex_count", "pattern": "a"}], "rollout": {}}
METHODS: dict[str, dict[str, Any]] = {"reward": _REWARDED, "rollout": _REWARDED} | {
    key: {"kind": "ppo", "reward": _REWARDED["reward"], key: {}} for key in ("critic", "kl", "stop")
}
_CONSTITUTIONAL = {
    "kind": "constitutional",
    "writes": "revisions",
    "constitution": {"principles": [{"text": "Be good."}]},
    "judge": _JUDGE,
}
METHODS |= {"constitution": _CONSTITUTIONAL, "judge": _CONSTITUTIONAL}
METHODS |= {"teacher": {"kind": "distill_text", "teacher": _JUDGE}}
_JUDGED = {"kind": "grpo", "reward": [{"kind": "judge", "judge": _JUDGE}]}


@pytest.mark.parametrize("path", sorted(set(sections(Job))), ids=".".join)
def test_unknown_key_at_every_depth(path: tuple[str, ...]) -> None:
    document = copy.deepcopy(FULL)
    if path[:1] == ("method",) and path[1:]:
        document["method"] = copy.deepcopy(
            _JUDGED if path[1:3] == ("reward", "judge") else METHODS[path[1]]
        )
    if path[:2] in (("adapter", "method"), ("adapter", "adapters")):
        # People write it in a section of its own.
        members: dict[str, Any] = {"one": "runs/one/model", "two": "runs/two/model"}
        inner = {"adapters": dict(members), "method": {"kind": "merge"}}
        del document["adapter"]
        document["compose"] = {"adapters": {**members, "pair": inner}, "method": {"kind": "merge"}}
        within = ("adapters", "pair", *path[2:]) if path[1] == "adapters" else path[1:]
        path = ("compose", *within)
    here: Any = document
    where = []
    for key in path:
        here = here.setdefault(key, {}) if isinstance(here, dict) else here
        where.append(key)
        if isinstance(here, list):
            here = here[0]
            where.append("0")
    here["no_such_key_of_ours"] = 7
    found = problems(document)
    name = ".".join([*where, "no_such_key_of_ours"])
    assert name in found, sorted(found)
    assert "no such key (got 7)" in found[name]


@pytest.mark.parametrize(
    "name", ["a", "A1", "a-b", "a--b", "0", "x" * 63, "my-job-2", "a" + "-b" * 31]
)
def test_sagemaker_accepts(minimal: dict[str, Any], name: str) -> None:
    assert parse_job({**minimal, "name": name}, "job.yaml").name == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "a_b", "a b", "a.b", "x" * 64, "é", "a\n", 7])
def test_sagemaker_refuses(minimal: dict[str, Any], name: Any) -> None:
    assert problems({**minimal, "name": name}).keys() == {"name"}


CONTRADICTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("max_steps and epochs", {"train": {"max_steps": 5, "num_train_epochs": 2}},
     "train.num_train_epochs"),
    ("batch and micro-batch", {"train": {"global_batch_size": 8, "micro_batch_size": 3}},
     "train.global_batch_size"),
    ("batch and processes", {"train": {"global_batch_size": 7}, "resources": {"processes": 2}},
     "train.global_batch_size"),
    ("warmup longer than run", {"train": {"max_steps": 5, "warmup": "9 steps"}}, "train.warmup"),
    ("stopping early on nothing", {"train": {"early_stopping": {"patience": 1}},
     "evaluate": {"every": "5 steps"}}, "train.early_stopping"),
    ("scratch without shape", {"model": {"source": "scratch"}}, "model.scratch"),
    ("freeze and adapter", {"model": {"source": "a/b", "freeze": {"layers": 1}},
     "adapter": {"kind": "lora"}}, "model.freeze"),
    ("flash attention in fp32", {"model": {"source": "a/b", "attention": "flash_attention_2"}},
     "model.attention"),
    ("no data", {"data": {}}, "data.train"),
    ("split of everything", {"data": {"train": "x", "validation": {"split": "100%"}}},
     "data.validation.split"),
    ("group without a column", {"data": {"train": "x", "validation": {"split": "5%",
     "by": "group"}}}, "data.validation.column"),
    ("column without by", {"data": {"train": "x", "validation": {"split": "5%",
     "column": "user"}}}, "data.validation.column"),
    ("group without a split", {"data": {"train": "x", "validation": {"by": "group",
     "column": "user"}}}, "data.validation.by"),
    ("groups of prompts", {"data": {"prompts": ["x"], "validation": {"split": "5%",
     "by": "group", "column": "user"}}}, "data.validation.by"),
    ("endless stream", {"data": {"train": "x", "streaming": True}}, "train.max_steps"),
    ("split of a stream", {"data": {"train": "x", "streaming": True,
     "validation": {"split": "5%"}}, "train": {"max_steps": 5}}, "data.validation.split"),
    ("offload without zero", {"sharding": {"offload": "cpu"}}, "sharding.offload"),
    ("nvme without zero 3", {"sharding": {"offload": "nvme", "zero": 2, "nvme_path": "/tmp"}},
     "sharding.offload"),
    ("nvme nowhere", {"sharding": {"offload": "nvme", "zero": 3}}, "sharding.nvme_path"),
    ("zero and fsdp", {"sharding": {"zero": 1, "fsdp": "full"}}, "sharding"),
    ("4 bits and zero 3", {"sharding": {"zero": 3}, "adapter": {"kind": "qlora"}},
     "sharding.zero"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sections", "path"), [c[1:] for c in CONTRADICTIONS], ids=[c[0] for c in CONTRADICTIONS]
)
def test_contradiction(minimal: dict[str, Any], sections: dict[str, Any], path: str) -> None:
    assert path in problems({**minimal, **sections})


def test_stages_have_names_of_their_own_and_a_first_model(minimal: dict[str, Any]) -> None:
    stage = {key: value for key, value in minimal.items() if key != "model"}
    found = problems({"name": "two", "stages": [{**stage, "name": "a"}, {**stage, "name": "a"}]})
    assert found.keys() == {"stages.0.model.source", "stages.1.name"}


def test_unknown_key_in_a_stage(minimal: dict[str, Any]) -> None:
    found = problems({"name": "two", "stages": [changed(minimal, train={"lr": 1})]})
    assert found.keys() == {"stages.0.train.lr"}
    assert "Did you mean learning_rate?" in found["stages.0.train.lr"]


_TWO = {"one": "runs/one/model", "two": "runs/two/model"}
_PPO = {"kind": "ppo", "reward": _REWARDED["reward"]}
RENAMED: list[tuple[dict[str, Any], str, str]] = [
    ({"train": {"unfreeze": "at_once"}}, "train.unfreeze", "unfreeze: none"),
    ({"guards": {"unmoved_after": "9 steps"}}, "guards.unmoved_after", "update_check_after"),
    ({"compose": {"adapters": _TWO, "how": {"kind": "gate"}}}, "compose.how", "method"),
    (
        {"method": {**_PPO, "stop": {"falling_over": 8}}},
        "method.stop.falling_over",
        "reward_decline_window",
    ),
    (
        {"method": {**_PPO, "rollout": {"at_once": 8}}},
        "method.rollout.at_once",
        "sampling_batch_size",
    ),
    (
        {"method": {"kind": "distill_text", "teacher": {**_JUDGE, "at_once": 1}}},
        "method.teacher.at_once",
        "concurrency",
    ),
    (
        {"method": {"kind": "distill_text", "teacher": _JUDGE, "keep_cut": True}},
        "method.keep_cut",
        "keep_truncated",
    ),
]


@pytest.mark.parametrize(("sections", "path", "new"), RENAMED, ids=[case[1] for case in RENAMED])
def test_renamed_key_is_answered_with_the_new_one(
    minimal: dict[str, Any], sections: dict[str, Any], path: str, new: str
) -> None:
    found = problems({**minimal, **sections})
    assert new in found[path].partition(". ")[2]


@pytest.mark.parametrize("document", [None, [], "text", 7])
def test_no_mapping(document: Any) -> None:
    assert "mapping" in problems(document)["(file)"]


FILES: list[tuple[str, bytes, str]] = [
    ("not YAML", b"name: [", "line "),
    ("tabs", b"name: a\n\tmodel: b\n", "line 2"),
    ("twice the same key", b"name: a\nname: b\n", "'name' stands twice"),
    ("twice, deep", b"train:\n  warmup: 1\n  warmup: 2\n", "line 3"),
    ("not UTF-8", b"name: caf\xe9\n", "not UTF-8 at byte 9"),
    ("empty", b"", "mapping"),
    ("Python in YAML", b"name: !!python/object/apply:os.system ['true']\n", "line 1"),
]


@pytest.mark.parametrize(
    ("content", "words"), [f[1:] for f in FILES], ids=[f[0].replace(" ", "-") for f in FILES]
)
def test_file_that_is_not_a_job(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(content)
    with pytest.raises(JobError) as caught:
        load_job(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="no such file"):
        load_job(tmp_path / "none.yaml")
    with pytest.raises(JobError, match="a folder"):
        load_job(tmp_path)


def test_jobs_do_not_change(minimal: dict[str, Any]) -> None:
    job = parse_job(minimal, "job.yaml")
    with pytest.raises(Exception, match="frozen"):
        job.name = "other"  # type: ignore[misc]  # that is the point
    assert isinstance(job, Job | Pipeline)
    assert yaml.safe_load("1") == 1


def test_null_is_never_other_than_left_out() -> None:
    """Else a job that is written down without its nulls would be another job when it is read."""
    optional = [
        f"{section.__name__}.{name}"
        for section in _sections_below(ConfigSection)
        for name, field in section.model_fields.items()
        if type(None) in get_args(field.annotation) and field.default is not None
    ]
    assert optional == []


def _sections_below(base: type[ConfigSection]) -> Iterator[type[ConfigSection]]:
    for section in base.__subclasses__():
        yield section
        yield from _sections_below(section)
