"""`temper plan-serving`: memory, speed and cost, against figures that are computed apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from catalog.instances import instances
from planning.hf_config import NamedShape, shape_of
from planning.model_shape import ModelShape
from planning.serving.cost import break_even_hours
from planning.serving.options import ServingOption, cheapest_tokens, serving_options
from planning.serving.placement import placements
from planning.serving.speed import speed
from planning.serving.workload import ServingWorkload
from temper.cli import main

LLAMA_8B: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "vocab_size": 128256, "max_position_embeddings": 131072, "tie_word_embeddings": False,
}  # fmt: skip
LLAMA_70B = LLAMA_8B | {
    "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
    "num_attention_heads": 64,
}  # fmt: skip
MIXTRAL = LLAMA_8B | {
    "model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2, "vocab_size": 32000,
    "max_position_embeddings": 32768,
}  # fmt: skip
CHAT = ServingWorkload(prompt_tokens=1000, answer_tokens=250, context=4096)


def shape(config: dict[str, Any]) -> ModelShape:
    return shape_of(config, NamedShape("m", None, "test"))


def test_memory_of_llama_8b_on_one_h100() -> None:
    found = next(placements(shape(LLAMA_8B), instances()["p5.4xlarge"], "bf16", CHAT))
    # 8,030,261,248 parameters of 2 bytes; 2 × 32 layers × 8 heads × 128 × 2 bytes per token.
    assert found.weights_gib == pytest.approx(8_030_261_248 * 2 / 2**30, rel=1e-6)
    assert found.cache_bytes_per_token == 128 * 1024
    assert (found.tensor_parallel, found.copies) == (1, 1)
    used = found.weights_gib + found.step_gib + found.cache_gib
    assert used == pytest.approx(0.9 * 80)


def test_a_model_that_fits_no_device_is_divided() -> None:
    large = shape(LLAMA_70B)
    found = list(placements(large, instances()["p5.48xlarge"], "bf16", CHAT))
    # 70.6 B parameters of 2 bytes are 131.4 GiB; a device has 72 GiB for them and the rest.
    assert [place.tensor_parallel for place in found] == [2, 4, 8]
    assert [place.copies for place in found] == [4, 2, 1]
    assert found[0].cache_gib < 72 - 131.4 / 2 < 8
    assert found[1].cache_bytes_per_token == 2 * 80 * 2 * 128 * 2
    assert not list(placements(large, instances()["g5.xlarge"], "bf16", CHAT))


def test_heads_of_keys_are_copied_when_there_are_fewer_than_devices() -> None:
    grouped = shape(LLAMA_8B | {"num_key_value_heads": 2})
    found = {p.tensor_parallel: p for p in placements(grouped, _p4d(), "bf16", CHAT)}
    assert found[8].cache_bytes_per_token == found[2].cache_bytes_per_token == 32 * 1024 // 2


def test_heads_that_cannot_be_divided_are_not() -> None:
    odd = shape(LLAMA_8B | {"num_attention_heads": 28, "num_key_value_heads": 4, "head_dim": 128})
    assert {p.tensor_parallel for p in placements(odd, _p4d(), "bf16", CHAT)} == {1, 2, 4}


def test_a_token_alone_takes_the_time_of_reading_the_weights() -> None:
    model = shape(LLAMA_8B)
    place = next(placements(model, instances()["g5.xlarge"], "bf16", CHAT))
    found = speed(model, place, CHAT)
    reading_s = 8.03e9 * 2 / 600e9  # A10G: 600 GB/s
    assert reading_s < found.token_s.low < found.token_s.high < 2.5 * reading_s
    assert found.token_s.low < found.loaded_token_s.low
    assert found.prefill_s.low > 2 * 7.5e9 * 1000 / 70e12  # A10G: 70 TFLOPS


def test_a_mixture_reads_few_experts_for_one_request_and_all_for_many() -> None:
    model = shape(MIXTRAL)
    place = next(placements(model, instances()["p5.48xlarge"], "bf16", CHAT))
    one = ServingWorkload(1000, 250, 4096, sequences=1)
    alone = next(placements(model, instances()["p5.48xlarge"], "bf16", one))
    ratio = speed(model, place, CHAT).token_s.low / speed(model, alone, one).loaded_token_s.low
    assert ratio < 1, "alone, 2 of 8 experts are read"
    # 46.7 B parameters, of which 2 of 8 experts are 12.9 B, on 2 × 3,350 GB/s.
    reading_s = 12.9e9 * 2 / (place.tensor_parallel * 3350e9)
    assert speed(model, place, CHAT).token_s.low == pytest.approx(reading_s / 0.85, rel=0.35)


def test_rates_and_times_agree() -> None:
    """By Little's law, the requests in a server are their rate times their duration."""
    model = shape(LLAMA_8B)
    for place in placements(model, _p4d(), "bf16", CHAT):
        found = speed(model, place, CHAT)
        duration_s = found.loaded_token_s.low * CHAT.answer_tokens
        together = found.requests_per_s.high * duration_s
        assert together == pytest.approx(place.copies * place.sequences, rel=1e-6)


def test_options_are_ordered_by_price_and_have_what_a_server_needs() -> None:
    found = serving_options(shape(LLAMA_8B), CHAT)
    prices = [option.hourly_usd for option in found]
    assert prices == sorted(prices)
    assert found[0].placement.instance.name == "g6.xlarge"
    devices = [(_device(o), o.placement.instance.devices, o.placement.dtype) for o in found]
    assert len(set(devices)) == len(devices), "larger sizes with the same devices are left out"
    assert not [d for d in devices if d[0] in ("A10G", "A100-40") and d[2] == "fp8"]
    assert "p5e.48xlarge" not in {o.placement.instance.name for o in found}, "not on demand"
    assert cheapest_tokens(found).usd_per_million <= min(o.usd_per_million for o in found)


def test_cost_of_tokens_is_price_over_rate() -> None:
    option = serving_options(shape(LLAMA_8B), CHAT, ["bf16"])[0]
    rate = option.speed.answer_tokens_per_s.low
    expected = option.cost.hourly / (rate * 3600) * 1e6
    assert option.cost.per_million[1.0].high == pytest.approx(expected)
    assert option.cost.per_million[0.1].high == pytest.approx(10 * expected)


def test_a_limit_on_latency_lowers_how_many_are_decoded_together() -> None:
    free = _of(serving_options(shape(LLAMA_8B), CHAT, ["bf16"]), "g5.xlarge")
    limited = ServingWorkload(1000, 250, 4096, max_token_s=0.08)
    found = _of(serving_options(shape(LLAMA_8B), limited, ["bf16"]), "g5.xlarge")
    assert found.placement.sequences < free.placement.sequences
    assert found.speed.loaded_token_s.high <= 0.08 < free.speed.loaded_token_s.high
    assert found.usd_per_million > free.usd_per_million


def test_a_rate_of_requests_needs_several_instances() -> None:
    busy = ServingWorkload(1000, 250, 4096, requests_per_s=10)
    option = _of(serving_options(shape(LLAMA_8B), busy, ["bf16"]), "g5.xlarge")
    assert (option.count - 1) * option.speed.requests_per_s.low < 10
    assert option.count * option.speed.requests_per_s.low >= 10
    assert option.hourly_usd == option.count * option.cost.hourly


def test_hours_at_which_an_endpoint_costs_less_than_an_import() -> None:
    # 2 units at $0.0572 to $0.0785 a minute; $1.95 a month of storage each.
    even = break_even_hours(1.5, 2)
    hourly = 1.5 - 2 * 1.95 / 730
    assert even.low == pytest.approx(24 * hourly / (2 * 0.0785 * 60))
    assert even.high == pytest.approx(24 * hourly / (2 * 0.0572 * 60))
    assert break_even_hours(100, 1) == (24, 24)


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B))
    return str(tmp_path)


def test_the_plan_says_instances_arithmetic_cost_and_break_even(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan-serving", model, "--import-units", "2"]) == 0
    said = capsys.readouterr().out
    assert "8.03 B parameters (llama)" in said
    assert "1 × ml.g6.xlarge" in said
    assert "cache: 128 KiB a token, 0.50 GiB for the longest request" in said
    assert "10% $" in said and "50% $" in said and "100% $" in said
    assert "Bedrock import with 2 Custom Model Units: $6.86–9.42 for an active hour" in said


def test_the_longest_request_fits_a_short_context(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA_8B, "max_position_embeddings": 512}))
    options = ["--prompt-tokens", "100", "--answer-tokens", "50"]
    assert main(["plan-serving", str(tmp_path), *options]) == 0
    assert "0.06 GiB for the longest request" in capsys.readouterr().out
    assert main(["plan-serving", str(tmp_path)]) == 2
    assert "more than the longest request (got 512)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--context", "200"], "1250 tokens on average, more than the longest request (got 200)"),
        (["--context", "200000"], "the model has a context of 131072 tokens (got 200000)"),
        (["--dtype", "int3"], "unknown dtype (got int3). Known are bf16, fp8"),
        (["--max-token-ms", "0.5"], "no instance type of the catalog serves it"),
    ],
)
def test_models_that_cannot_be_planned_are_reported(
    model: str, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert main(["plan-serving", model, *options]) == 2
    out, err = capsys.readouterr()
    assert said in out + err


def _p4d() -> Any:
    return instances()["p4d.24xlarge"]


def _device(option: ServingOption) -> str:
    return option.placement.instance.accelerator.name


def _of(options: list[ServingOption], name: str) -> ServingOption:
    return next(option for option in options if option.placement.instance.name == name)
