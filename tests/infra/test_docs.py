"""Tests that the pages of docs/platform match the settings, the alarms and the costs."""

import re
from datetime import date
from typing import Any

import pytest

from stacks.baseline_cost import eks_price, idle_costs, price_table, prices
from stacks.baseline_cost import markdown_table as table_of_costs
from stacks.settings.table import rows, table
from tests.infra.conftest import ROOT, Assembly

DEPLOYMENTS = ("assistant-", "drafts-", "lite-", "support-")
PAGES = ROOT / "docs" / "platform"


def test_the_table_of_switches_is_current() -> None:
    text = (PAGES / "settings.md").read_text(encoding="utf-8")
    shown = text.split("<!-- switches -->\n")[1].split("<!-- /switches -->")[0]
    assert shown.strip() == table(), "run python -m stacks.settings.table and put it there"


def test_every_switch_says_what_it_does() -> None:
    assert [name for name, _, what in rows() if len(what) < 5] == []


def test_every_alarm_is_in_the_table(everything: Assembly) -> None:
    text = (PAGES / "alarms.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| ([a-z-]+) \| .* \| [a-z-]+-in-trouble \|$", text, re.MULTILINE))
    alarms: list[dict[str, Any]] = everything.of_type("AWS::CloudWatch::Alarm")
    names = {a["Properties"]["AlarmName"].removeprefix("temper-all-") for a in alarms}
    of_deployments = {name for name in names if name.startswith(DEPLOYMENTS)}
    assert listed == names - of_deployments
    rows = set(re.findall(r"^\| (NAME-[a-z]+) \|", text, re.MULTILINE))
    assert rows == {f"NAME-{name.rpartition('-')[2]}" for name in of_deployments}


def _between(mark: str) -> str:
    text = (PAGES / "costs.md").read_text(encoding="utf-8")
    return text.split(f"<!-- {mark} -->\n")[1].split(f"<!-- /{mark} -->")[0].strip()


def test_the_table_of_costs_is_what_the_templates_cost(dev: Assembly, prod: Assembly) -> None:
    assert _between("idle") == table_of_costs({"dev": dev.templates, "prod": prod.templates})


def test_every_price_has_its_page_and_date() -> None:
    assert _between("prices") == price_table()
    assert [name for name, row in prices().items() if not row["source"].startswith("https")] == []


def test_what_is_billed_for_standing_there_is_counted(everything: Assembly, eks: Assembly) -> None:
    found = {(each.stack, each.item): each for each in idle_costs(everything.templates)}
    assert found["network", "nat"].usd_month == pytest.approx(0.045 * 730)
    assert found["hyperpod", "db.t4g.medium"].usd_month == pytest.approx(2 * 0.065 * 730)
    assert found["hyperpod", "ml.g5.12xlarge"].quantity == 2
    assert found["hyperpod", "ml.p5.48xlarge"].usd_month is not None
    # No page gives these a price, and none is made up.
    assert found["bedrock", "provisioned throughput"].usd_month is None
    assert found["storage", "lustre 250"].usd_month is None
    assert any(each.item.startswith("eks") for each in idle_costs(eks.templates))
    # An autoscaled group has no node while no job waits for one.
    idle = {each.item: each for each in idle_costs(eks.templates)}
    assert idle["ml.g6.xlarge"].quantity == 0
    assert idle["ml.g5.12xlarge"].quantity == 2


def test_an_eks_version_out_of_standard_support_costs_more() -> None:
    assert eks_price("1.34", date(2026, 12, 2)) == "eks"
    assert eks_price("1.34", date(2026, 12, 3)) == "eks extended"
    assert prices()["eks extended"]["usd"] > prices()["eks"]["usd"]
