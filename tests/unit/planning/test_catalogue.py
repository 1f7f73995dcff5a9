"""The catalogue: every row has a source and is plausible, and EC2's own record says the same."""

from __future__ import annotations

import gzip
import json
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from catalog import prices
from catalog.accelerators import by_driver_name, peak_flops
from catalog.cpu_instances import cpu_instances
from catalog.instances import accelerators, instance, instances, tables
from catalog.managed_training import providers
from launch.prices import refresh_prices, training_prices

FAMILIES = ["p4d", "p4de", "p5", "p5e", "p5en", "p6-b200", "p6-b300", "g5", "g6", "g6e", "g7e"]
NEURON = ["trn1", "trn1n", "trn2"]


@pytest.mark.parametrize("family", FAMILIES + NEURON)
def test_each_family_is_there(family: str) -> None:
    assert [name for name in instances() if name.partition(".")[0] == family]


def test_every_row_has_a_source() -> None:
    table, costs = tables(), prices.tables()
    for row in [*table["accelerators"].values(), *table["instances"].values()]:
        assert row["source"] in table["sources"]
    for source in [*table["sources"].values(), *costs["sources"].values()]:
        assert source["what"]
        assert date(2024, 1, 1) < source["date"] <= date.today()


@pytest.mark.parametrize("name", accelerators())
def test_an_accelerator_is_plausible(name: str) -> None:
    device = accelerators()[name]
    assert 0.9 * device.memory_gib < device.usable_gib < device.memory_gib
    assert device.bf16_tflops > device.fp32_tflops > 10
    # A fast device with slow memory, or the reverse, is a slip of the pen.
    assert 50 < device.bf16_tflops * 1e12 / (device.bandwidth_gb_s * 1e9) < 600


@pytest.mark.parametrize("name", instances())
def test_an_instance_is_plausible(name: str) -> None:
    found = instances()[name]
    assert found.devices in (1, 2, 4, 8, 32, 64)
    assert 4 <= found.memory_gib / found.vcpus <= 24
    assert found.nvme_gb >= 250 and found.network_gbps >= 10
    # Several nodes share the work only where their network has EFA.
    assert found.efa or found.network_gbps <= 50


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    """EC2's answers to DescribeInstanceTypes, as moto has recorded them."""
    found = find_spec("moto")
    if found is None or found.origin is None:
        pytest.skip("moto, which keeps EC2's record of instance types, is not installed")
    path = Path(found.origin).parent / "ec2/resources/instance_types.json.gz"
    return dict(json.loads(gzip.decompress(path.read_bytes())))


@pytest.mark.parametrize("name", instances())
def test_instance_facts_agree_with_ec2(name: str, recorded: dict[str, Any]) -> None:
    ours, theirs = instances()[name], recorded[name]
    assert ours.vcpus == theirs["VCpuInfo"]["DefaultVCpus"]
    assert ours.memory_gib == theirs["MemoryInfo"]["SizeInMiB"] / 1024
    assert ours.nvme_gb == theirs["InstanceStorageInfo"]["TotalSizeInGB"]
    assert ours.efa == theirs["NetworkInfo"].get("EfaInfo", {}).get("MaximumEfaInterfaces", 0)
    if ours.accelerator.kind == "cuda":
        assert ours.chips == sum(gpu["Count"] for gpu in theirs["GpuInfo"]["Gpus"])
    elif "NeuronInfo" in theirs:  # which EC2 does not say of trn2u
        assert ours.chips == sum(d["Count"] for d in theirs["NeuronInfo"]["NeuronDevices"])


def test_names_are_found_with_and_without_the_prefix() -> None:
    assert instance("ml.p4d.24xlarge") is instance("p4d.24xlarge") is not None
    assert instance("ml.p4d.25xlarge") is None


def test_drivers_names_are_known() -> None:
    assert peak_flops("NVIDIA A100-SXM4-40GB", "bf16") == 312e12
    forty, eighty = by_driver_name("NVIDIA A100-SXM4-40GB"), by_driver_name("NVIDIA A100-SXM4-80GB")
    assert forty and eighty and forty.name == "A100-40" and eighty.name == "A100-80"
    assert by_driver_name("GeForce 256") is None


# --- prices -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cpu_instances())
def test_facts_of_instances_without_accelerators_agree_with_ec2(
    name: str, recorded: dict[str, Any]
) -> None:
    described = recorded[name]
    instance = cpu_instances()[name]
    assert instance.vcpus == described["VCpuInfo"]["DefaultVCpus"]
    assert instance.memory_gib * 1024 == described["MemoryInfo"]["SizeInMiB"]


@pytest.mark.parametrize("name", prices.tables()["ec2"] | prices.tables()["block"])
def test_a_price_is_dated_and_plausible(name: str) -> None:
    found = prices.price(name)
    assert found and name in instances() | cpu_instances()
    assert found.date and found.region and found.source
    per_device = found.on_demand_usd / (instances()[name].devices if name in instances() else 1)
    assert 0.1 < per_device < 25
    assert found.spot_low_usd <= found.on_demand_usd


def test_what_is_asked_for_has_a_price() -> None:
    without = {name for name in instances() if prices.price(name) is None}
    assert without <= {"trn2.3xlarge", "trn2u.48xlarge"}


@pytest.fixture
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPER_CACHE", str(tmp_path))
    prices._refreshed.cache_clear()
    providers.cache_clear()
    yield
    prices._refreshed.cache_clear()
    providers.cache_clear()


@pytest.mark.usefixtures("_own_cache")
def test_without_credentials_the_dated_table_stays(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    before = prices.price("p4d.24xlarge")
    assert refresh_prices() == 0
    said = capsys.readouterr().out
    assert "no AWS credentials" in said and "2026-07-20" in said
    assert not prices.refreshed_path().exists()
    assert prices.price("p4d.24xlarge") == before


@pytest.mark.usefixtures("_own_cache")
def test_what_the_price_list_answers_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launch.prices._client", lambda: _PriceList(30.0))
    assert refresh_prices("us-east-1") == 0
    found = prices.price("ml.p4d.24xlarge")
    assert found and found.on_demand_usd == 30.0
    assert found.source == "AWS price list"
    assert training_prices(_PriceList(30.0), "us-east-1") == {"p4d.24xlarge": 30.0}


@pytest.mark.usefixtures("_own_cache")
def test_price_list_widens_the_prices_of_customization(monkeypatch: pytest.MonkeyPatch) -> None:
    lite, micro = "amazon.nova-lite-v1:0", "amazon.nova-micro-v1:0"
    assert providers()["bedrock-customization"].models[lite].usd_per_1k_tokens is None
    tokens = {
        "USE1-NovaLite-Customization-Training": ("1K tokens", 0.002),
        "USE1-NovaPro-Customization-Training": ("1M tokens", 8.0),
        "USW2-Llama3-3-70B-Customization-Training": ("1B tokens", 9.0),
    }
    monkeypatch.setattr("launch.prices._client", lambda: _PriceList(30.0, tokens))
    assert refresh_prices("us-east-1") == 0
    models = providers()["bedrock-customization"].models
    assert models[lite].usd_per_1k_tokens == 0.002
    assert models[lite].price_source == f"AWS price list, USE1-NovaLite, {date.today()}"
    assert models["amazon.nova-pro-v1:0"].usd_per_1k_tokens == 0.008
    # A unit that is not known is no price, and a model without one keeps that of the table.
    assert models["meta.llama3-3-70b-instruct-v1:0"].usd_per_1k_tokens is None
    assert models[micro].usd_per_1k_tokens == 0.001


class _PriceList:
    """Answers as the price list does, for one type of instance and some usage types of Bedrock."""

    def __init__(self, usd: float, tokens: dict[str, tuple[str, float]] | None = None):
        self.usd, self.tokens = usd, tokens or {}

    def get_paginator(self, _: str) -> _PriceList:
        return self

    def paginate(self, **request: Any) -> list[dict[str, Any]]:
        if request["ServiceCode"] == "AmazonBedrock":
            unit, usd = self.tokens.get(request["Filters"][0]["Value"], ("", 0.0))
            dimension = {"unit": unit, "pricePerUnit": {"USD": str(usd)}}
            terms = {"OnDemand": {"one": {"priceDimensions": {"one": dimension}}}}
            return [{"PriceList": [json.dumps({"product": {}, "terms": terms})] if unit else []}]
        hour = {"unit": "Hrs", "pricePerUnit": {"USD": str(self.usd)}}
        product = {
            "product": {"attributes": {"instanceName": "ml.p4d.24xlarge-Training"}},
            "terms": {"OnDemand": {"one": {"priceDimensions": {"one": hour}}}},
        }
        return [{"PriceList": [json.dumps(product)]}]
