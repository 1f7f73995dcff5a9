"""Jobs for Trainium: what is refused by name, all at once, and what the device decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from catalog import local_devices
from temper.cli import main
from training.config import Job, Pipeline
from training.config.device_kind import device_kind
from training.config.load import parse_job
from training.config.static_shapes import static_shapes
from training.errors import JobError, Problem

TRN2 = {"instance": "ml.trn2.48xlarge"}


def document(**sections: Any) -> dict[str, Any]:
    return {
        "name": "trainium",
        "model": {"source": "owner/model"},
        "data": {"train": "owner/rows"},
        "method": {"kind": "sft"},
        "train": {"max_steps": 2, "global_batch_size": 64},
        "resources": TRN2,
        **sections,
    }


def problems(given: dict[str, Any]) -> dict[str, Problem]:
    with pytest.raises(JobError) as error:
        parse_job(given, "job.yaml")
    return {problem.path: problem for problem in error.value.problems}


@pytest.mark.parametrize(
    ("sections", "path", "fix"),
    [
        ({"sharding": {"zero": 2}}, "sharding.zero", "fsdp: full"),
        ({"sharding": {"zero": 1, "offload": "cpu"}}, "sharding.offload", "fsdp: full"),
        ({"adapter": {"kind": "qlora"}}, "adapter.kind", "Use adapter kind lora"),
        ({"train": {"max_steps": 2, "optimizer": "adamw_8bit"}}, "train.optimizer", "Use adamw"),
        (
            {"train": {"max_steps": 2, "optimizer": "paged_adamw_8bit"}},
            "train.optimizer",
            "Use adamw",
        ),
        ({"precision": "fp16"}, "precision", "Use bf16"),
        (
            {"model": {"source": "a/b", "attention": "flash_attention_2"}, "precision": "bf16"},
            "model.attention",
            "Use sdpa",
        ),
        (
            {"train": {"max_steps": 2, "static_shapes": False}},
            "train.static_shapes",
            "Leave it out",
        ),
        ({"evaluate": {"samples": ["Why?"]}}, "evaluate.samples", "temper answer"),
        (
            {"method": {"kind": "distill", "teacher": "a/b", "teacher_4bit": True}},
            "method.teacher_4bit",
            "Leave it out",
        ),
        (
            {
                "method": {
                    "kind": "distill",
                    "teacher": "a/b",
                    "loss_on": "completion",
                    "on_policy": "50%",
                }
            },
            "method.on_policy",
            "Leave it out",
        ),
        *(
            ({"method": {"kind": kind, "reward": [{"kind": "repetition"}]}}, "method.kind", "GPU")
            for kind in ("grpo", "rloo", "ppo")
        ),
        (
            {"method": {"kind": "distill_text", "teacher": {"kind": "local"}}},
            "method.kind",
            "GPU",
        ),
        (
            {"resources": {**TRN2, "fallback": ["ml.p4d.24xlarge"]}},
            "resources.fallback",
            "second job",
        ),
    ],
)
def test_each_is_refused_with_its_replacement(
    sections: dict[str, Any], path: str, fix: str
) -> None:
    problem = problems(document(**sections))[path]
    assert fix in problem.fix and problem.value
    # On a GPU the same section is no problem of the device.
    given = document(**{**sections, "resources": {"instance": "ml.p4d.24xlarge"}})
    try:
        parse_job(given, "job.yaml")
    except JobError as error:
        assert "Trainium" not in str(error)


def test_all_problems_are_reported_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = document(
        sharding={"zero": 3, "offload": "cpu"},
        adapter={"kind": "qlora"},
        precision="fp16",
        train={"max_steps": 2, "optimizer": "paged_adamw_8bit"},
    )
    expected = {
        *("sharding.zero", "sharding.offload", "adapter.kind", "precision", "train.optimizer")
    }
    assert expected <= problems(given).keys()
    job = tmp_path / "job.yaml"
    job.write_text(str(given))
    for command in ("check", "plan"):
        assert main([command, str(job)]) == 2
        said = capsys.readouterr().err
        assert all(path in said for path in expected), (command, said)


def test_a_later_stage_is_refused_for_the_machine_of_the_first() -> None:
    first = document(name="first")
    second = {k: v for k, v in document(name="second", precision="fp16").items() if k != "model"}
    del second["resources"]
    given = {"name": "stages", "stages": [first, second]}
    assert "stages.1.precision" in problems(given)


def test_a_remote_teacher_generates_elsewhere() -> None:
    method = {
        "kind": "distill_text",
        "teacher": {"kind": "openai", "model": "m", "url": "https://x/v1"},
    }
    assert isinstance(parse_job(document(method=method), "job.yaml"), Job)


@pytest.mark.parametrize(
    ("sections", "packing"),
    [
        ({}, True),
        ({"data": {"train": "a/b", "packing": False}}, False),
        ({"adapter": {"kind": "lora"}}, True),
        ({"adapter": {"kind": "prompt_tuning"}}, False),
        ({"method": {"kind": "dpo"}}, False),
        ({"resources": {"instance": "ml.p4d.24xlarge"}}, False),
        ({"resources": {}}, False),
    ],
)
def test_packing_is_on_where_it_can_be(sections: dict[str, Any], packing: bool) -> None:
    job = parse_job(document(**sections), "job.yaml")
    assert isinstance(job, Job)
    assert job.data.packing is packing


def test_packing_is_on_in_stages() -> None:
    job = parse_job({"name": "stages", "stages": [document(name="one")]}, "job.yaml")
    assert isinstance(job, Pipeline) and job.stages[0].data.packing


def test_a_rehearsal_on_a_cpu_has_the_shapes_of_trainium() -> None:
    job = parse_job(document(), "job.yaml")
    assert isinstance(job, Job)
    shapes = static_shapes(job, "cpu")
    assert shapes is not None and shapes.lengths == (1024,)


def test_a_machine_with_neuron_chips_decides_for_a_job_without_an_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "neuron0").touch()
    kind = local_devices.local_kind
    monkeypatch.setattr("training.config.device_kind.local_kind", lambda env: kind({}, tmp_path))
    job = parse_job(document(resources={}), "job.yaml")
    assert isinstance(job, Job)
    assert device_kind([job]) == "neuron" and job.data.packing
