"""docs/platform.md says what the settings and the alarms are."""

import re
from typing import Any

from stacks.settings.table import rows, table
from tests.infra.conftest import ROOT, Assembly

PAGE = ROOT / "docs" / "platform.md"


def test_the_table_of_switches_is_current() -> None:
    text = PAGE.read_text(encoding="utf-8")
    shown = text.split("<!-- switches -->\n")[1].split("<!-- /switches -->")[0]
    assert shown.strip() == table(), "run python -m stacks.settings.table and put it there"


def test_every_switch_says_what_it_does() -> None:
    assert [name for name, _, what in rows() if len(what) < 5] == []


def test_every_alarm_is_in_the_table(everything: Assembly) -> None:
    text = PAGE.read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| ([a-z-]+) \| .* \| [a-z-]+-in-trouble \|$", text, re.MULTILINE))
    alarms: list[dict[str, Any]] = everything.of_type("AWS::CloudWatch::Alarm")
    assert listed == {a["Properties"]["AlarmName"].removeprefix("temper-all-") for a in alarms}


def test_the_numbers_of_alarms_are_those_of_the_templates(dev: Assembly, prod: Assembly) -> None:
    text = PAGE.read_text(encoding="utf-8")
    for assembly in (dev, prod):
        alarms = len(assembly.of_type("AWS::CloudWatch::Alarm"))
        composites = len(assembly.of_type("AWS::CloudWatch::CompositeAlarm"))
        cost = alarms * 0.10 + composites * 0.50
        assert f"{alarms} alarms, {composites} composites: ${cost:.2f}" in text
