"""`temper plan`: its JSON document, its exit codes and its refusals."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from planning import make_plan
from temper.cli import main
from tests.run_commands import ROOT, changed
from training.config.load import parse_job

SHAPE = {
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 128256,
    "tie_word_embeddings": True,
}


@pytest.fixture
def job(tmp_path: Path) -> dict[str, Any]:
    """A LoRA fine-tune of a model of a billion weights on one g5."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text(json.dumps(SHAPE))
    rows = ({"prompt": "Why?", "completion": f"Because of {n}. " * 20} for n in range(400))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "name": "planned",
        "model": {"source": str(tmp_path / "model")},
        "data": {
            "train": str(tmp_path / "rows.jsonl"),
            "validation": {"split": "10%"},
            "max_length": 512,
        },
        "method": {"kind": "sft"},
        "adapter": {"kind": "lora"},
        "train": {"num_train_epochs": 3, "global_batch_size": 16},
        "precision": "bf16",
        "resources": {"instance": "ml.g5.xlarge"},
    }


def run(job: dict[str, Any], tmp_path: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the plan for programs."""
    file, out = tmp_path / "job.yaml", tmp_path / "plan.json"
    file.write_text(yaml.safe_dump(job))
    code = main(["plan", str(file), "--out", str(out), *options])
    return code, json.loads(out.read_text()) if out.exists() else {}


def plan_of(job: dict[str, Any]) -> Any:
    return make_plan(parse_job(job, "test"))


def test_the_keys_that_programs_read(job: dict[str, Any], tmp_path: Path) -> None:
    code, plan = run(job, tmp_path)
    assert code == 0
    assert plan["fits"] is True and plan["refused"] == []
    parts = {k: v for k, v in plan["memory_gib"].items() if k not in ("total", "device")}
    assert sum(parts.values()) == pytest.approx(plan["memory_gib"]["total"], abs=0.01)
    assert plan["memory_gib"]["device"] == 22.0
    rows, times = plan["micro_batch_size"], plan["gradient_accumulation_steps"]
    assert rows * times == 16
    assert plan["disk_gib"]["total"] > 2
    for key in ("hours", "cost_usd"):
        assert 0 < plan[key]["low"] < plan[key]["high"]


def test_what_is_left_open_is_chosen_and_can_be_written_into_the_job(job: dict[str, Any]) -> None:
    asked = parse_job(job, "test")
    plan = make_plan(asked)
    settled = plan.apply(asked)
    assert settled.train.micro_batch_size == plan.micro_batch_size  # type: ignore[union-attr]
    again = make_plan(settled)
    assert again.choices == {}
    assert again.memory_gib == plan.memory_gib


def test_long_rows_are_computed_again_where_they_would_not_fit_otherwise(
    job: dict[str, Any], tmp_path: Path
) -> None:
    row = {"prompt": "Why?", "completion": "Because of that. " * 16000}
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(row)}\n" * 32)
    plan = plan_of(changed(job, data={"max_length": 32768}))
    assert plan.fits
    assert plan.choices["train.gradient_checkpointing"] is True
    kept = changed(job, data={"max_length": 32768}, train={"gradient_checkpointing": False})
    refused = plan_of({**kept, "train": {**kept["train"], "micro_batch_size": 1}})
    assert not refused.fits
    assert "gradient_checkpointing: true" in refused.refused[0]


def test_a_refusal_names_what_would_fit_and_the_part_to_change(
    job: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = {k: v for k, v in job.items() if k != "adapter"}
    shape = {**SHAPE, "num_hidden_layers": 40}
    (tmp_path / "model/config.json").write_text(json.dumps(shape))
    code, plan = run(full, tmp_path)
    assert code == 2 and not plan["fits"]
    said = capsys.readouterr().err
    assert "ml.g6e" in said or "ml.g7e" in said or "ml.p" in said
    assert "adapter: {kind: lora}" in said
    assert said.strip().endswith(plan["refused"][-1])


def test_the_offer_is_the_cheapest_that_fits(job: dict[str, Any], tmp_path: Path) -> None:
    from planning.alternatives import alternatives
    from planning.dataset_stats import read_dataset_stats
    from planning.hf_config import read_shape

    asked = parse_job({k: v for k, v in job.items() if k != "adapter"}, "test")
    shape = read_shape(asked)  # type: ignore[arg-type]
    offers = alternatives(asked, shape, read_dataset_stats(asked, shape))  # type: ignore[arg-type]
    costs = [sum(offer.usd) for offer in offers]
    assert costs == sorted(costs) and len(offers) > 3
    assert all(offer.machine.device_gib > 20 for offer in offers)


def test_a_policy_and_a_reward_model_that_do_not_fit_together(
    job: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of eight billion weights: refused on one small device, and offered where shards fit."""
    shape = {**SHAPE, "num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14336}
    (tmp_path / "model/config.json").write_text(json.dumps(shape))
    method = {
        "kind": "ppo",
        "reward": {"kind": "model", "source": str(tmp_path / "model")},
        "rollout": {"max_new_tokens": 64},
    }
    asked = changed({k: v for k, v in job.items() if k != "adapter"}, method=method)
    asked["method"].pop("loss_on", None)
    code, plan = run(asked, tmp_path)
    assert code == 2 and plan["memory_gib"]["models"] > 20
    said = capsys.readouterr().err
    found = re.search(r"What would fit it as it is: (?:\d+) × (ml\.[a-z0-9.]+)", said)
    assert found, said
    sized = changed(asked, resources={"instance": found[1]})
    code, plan = run(sized, tmp_path)
    assert code == 0 and plan["fits"], capsys.readouterr().err


def test_limits_of_money_and_time_refuse(job: dict[str, Any], tmp_path: Path) -> None:
    limits = {"instance": "ml.g5.xlarge", "max_cost": "0.01 USD", "max_runtime": "1min"}
    code, plan = run(changed(job, resources=limits), tmp_path)
    assert code == 2
    assert any("max_cost" in reason for reason in plan["refused"])
    assert any("max_runtime" in reason for reason in plan["refused"])


def test_early_stopping_may_end_it_sooner(job: dict[str, Any]) -> None:
    stopping = {"num_train_epochs": 10, "early_stopping": {"patience": 2}}
    plan = plan_of(changed(job, train=stopping, evaluate={"every": "10 steps"}))
    assert any("early stopping may end it from step 30" in note for note in plan.notes)


def test_spot_is_cheaper_at_best_and_never_dearer(job: dict[str, Any]) -> None:
    on_demand = plan_of(job)
    spot = plan_of(changed(job, resources={"spot": True, "max_runtime": "10h"}))
    assert spot.cost_usd.low < on_demand.cost_usd.low
    assert spot.cost_usd.high <= on_demand.cost_usd.high * 1.01
    assert spot.costs_usd["spot"] == spot.cost_usd
    assert on_demand.costs_usd["on_demand"] == on_demand.cost_usd
    assert "2026-07-20" in spot.price


def test_the_tokens_of_a_model_without_a_tokenizer_are_estimated(job: dict[str, Any]) -> None:
    assert any("character" in note for note in plan_of(job).notes)


def test_disk_is_the_sum_of_its_parts_and_the_arithmetic_is_shown(job: dict[str, Any]) -> None:
    few, many = plan_of(job), plan_of(changed(job, checkpoint={"keep": 8}))
    parts = {k: v for k, v in few.disk_gib.items() if k != "total"}
    assert sum(parts.values()) == pytest.approx(few.disk_gib["total"])
    ratio = many.disk_gib["checkpoints"] / few.disk_gib["checkpoints"]
    assert ratio == pytest.approx(9 / (parse_job(job, "test").checkpoint.keep + 1))  # type: ignore[union-attr]
    assert any("checkpoints:" in line for line in few.arithmetic)


def test_all_that_an_adapter_trains_is_counted(job: dict[str, Any]) -> None:
    lora = plan_of(job)
    dora = plan_of(changed(job, adapter={"kind": "lora", "use_dora": True}))
    q, kv, inner, hidden = 2048, 512, 8192, 2048
    assert dora.learned - lora.learned == 16 * (2 * q + 2 * kv + 2 * inner + hidden)
    saved = {"kind": "lora", "modules_to_save": ["lm_head", "embed_tokens"]}
    assert plan_of(changed(job, adapter=saved)).learned - lora.learned == 2 * 128256 * 2048
    twice = plan_of(changed(job, adapter={"kind": "lora", "init": "pissa"}))
    assert twice.learned == 2 * lora.learned
    dealt = plan_of(changed(job, adapter={"kind": "adalora", "r": 8, "init_r": 16}))
    assert dealt.learned - lora.learned == 16 * 7 * 16
    # Two moments of each weight, and three scores.
    ratio = dealt.memory_gib["optimizer"] / lora.memory_gib["optimizer"]
    assert ratio == pytest.approx(5 / 2, rel=0.01)
    factors = plan_of(changed(job, adapter={"kind": "ia3"}))
    assert factors.learned == 16 * (2 * kv + inner)
    assert factors.memory_gib["optimizer"] < lora.memory_gib["optimizer"] / 10


def test_what_holds_a_run_back_takes_memory(job: dict[str, Any]) -> None:
    full = {k: v for k, v in job.items() if k != "adapter"} | {
        "resources": {"instance": "ml.p4de.24xlarge"}
    }
    gib = plan_of(full).parameters * 4 / 2**30
    for key in ("l2_sp", "kl_to_base"):
        held = plan_of(changed(full, train={key: 0.5}))
        assert held.memory_gib["models"] == pytest.approx(gib, rel=0.01)
    assert plan_of(changed(job, train={"kl_to_base": 0.5})).memory_gib["models"] == 0


def test_offloading_takes_the_memory_of_the_host(job: dict[str, Any]) -> None:
    full = {k: v for k, v in job.items() if k != "adapter"}
    refused = plan_of({**full, "sharding": {"zero": 2, "offload": "cpu"}})
    assert refused.memory_gib["total"] < refused.memory_gib["device"]
    assert "16 GiB" in refused.refused[0] and "offload" in refused.refused[0]
    larger = {**full, "resources": {"instance": "ml.g5.4xlarge"}}
    assert plan_of({**larger, "sharding": {"zero": 2, "offload": "cpu"}}).fits


def test_stages_share_a_disk_and_a_shared_model_is_counted_once(job: dict[str, Any]) -> None:
    first = {k: v for k, v in job.items() if k not in ("name", "adapter")} | {"name": "one"}
    later = {k: v for k, v in job.items() if k not in ("name", "model")}
    stages = [first, {**later, "name": "two"}, {**later, "name": "three"}]
    plan = plan_of({"name": "planned", "stages": stages})
    one, two, three = (stage.disk_gib for stage in plan.stages)
    assert plan.disk_gib["total"] == pytest.approx(sum(d["total"] for d in (one, two, three)))
    weights = plan.parameters * 2 / 2**30
    assert one["weights"] == pytest.approx(weights)
    assert two["weights"] == 0  # the first stage's model is counted there
    assert three["weights"] == pytest.approx(weights)  # the adapter before is merged and saved
    assert any("the earlier adapter is merged" in line for line in plan.stages[2].arithmetic)


def test_stages_that_fill_the_disk_together_are_refused(job: dict[str, Any]) -> None:
    full = {k: v for k, v in job.items() if k not in ("name", "adapter")}
    full |= {"checkpoint": {"keep": 640}, "resources": {"instance": "ml.p4de.24xlarge"}}
    alone = plan_of({**full, "name": "alone"})
    assert alone.fits, alone.refused
    later = {k: v for k, v in full.items() if k != "model"}
    plan = plan_of({"name": "both", "stages": [{**full, "name": "one"}, {**later, "name": "two"}]})
    assert not plan.fits
    assert "GiB of disk" in plan.refused[0]


def test_mistakes_are_explained(
    job: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = run(changed(job, resources={"instance": "ml.p4d.25xlarge"}), tmp_path)
    assert code == 2
    assert "Did you mean ml.p4d.24xlarge" in capsys.readouterr().err
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn/config.json").write_text("{")
    code, _ = run(changed(job, model={"source": str(tmp_path / "torn")}), tmp_path)
    said = capsys.readouterr().err
    assert code == 2 and "config.json cannot be read" in said and "Traceback" not in said


def test_a_plan_loads_no_torch(job: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    asked = (
        "import sys; from temper.cli import main; code = main(['plan', *sys.argv[1:]]);"
        "heavy = {'torch', 'transformers', 'boto3', 'numpy', 'pyarrow'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    command = [sys.executable, "-c", asked, str(tmp_path / "job.yaml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
