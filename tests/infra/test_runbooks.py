"""Tests that every alarm has a useful runbook, and that every runbook has an alarm."""

import re
from pathlib import Path

import pytest

from stacks.handlers.monitor.faults import FAULTS, HEARTBEAT
from tests.infra.conftest import ROOT, Assembly

PAGE = re.compile(r"docs/runbooks/([a-z0-9-]+)\.md")
FOLDER = ROOT / "docs" / "runbooks"
# Alarms of one deployment are named after it, and share a runbook: temper-all-assistant-errors.
OF_DEPLOYMENT = re.compile(r"temper-all-(?:assistant|drafts-nova|drafts|support|lite)-([a-z]+)")
# Reached by mail from AWS Budgets, which is no alarm.
WITHOUT_ALARM = {"budget-exceeded"}
PAGES = sorted(path.stem for path in FOLDER.glob("*.md"))


def _alarms(assembly: Assembly) -> list[dict[str, str]]:
    kinds = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
    return [alarm["Properties"] for kind in kinds for alarm in assembly.of_type(kind)]


def test_every_alarm_names_a_page_that_is_there(everything: Assembly) -> None:
    alarms = _alarms(everything)
    assert len(alarms) >= 20
    for alarm in alarms:
        [page] = PAGE.findall(alarm["AlarmDescription"])
        name = OF_DEPLOYMENT.sub(r"temper-all-deployment-\1", alarm["AlarmName"])
        assert name == f"temper-all-{page}"
        assert (FOLDER / f"{page}.md").is_file(), f"{alarm['AlarmName']} has no page {page}.md"


def test_no_page_is_about_nothing(everything: Assembly) -> None:
    named = {p for alarm in _alarms(everything) for p in PAGE.findall(alarm["AlarmDescription"])}
    assert set(PAGES) == named | WITHOUT_ALARM


def test_what_the_functions_count_has_an_alarm(everything: Assembly) -> None:
    source = (ROOT / "stacks" / "handlers" / "event_runbook.py").read_text(encoding="utf-8")
    pages = set(re.findall(r'"((?:training|hyperpod|endpoint|key|image)-[a-z-]+)"', source))
    pages |= {HEARTBEAT, *FAULTS}
    names = {alarm["AlarmName"].removeprefix("temper-all-") for alarm in _alarms(everything)}
    assert pages
    assert pages <= names


@pytest.mark.parametrize("page", PAGES)
def test_a_page_helps(page: str) -> None:
    text = (FOLDER / f"{page}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {page}\n")
    for part in (
        "**What it means.**",
        "## Look first",
        "## Likely causes",
        "## Do",
        "## Stop worrying when",
    ):
        assert part in text, f"{page}.md lacks {part}"
    assert re.search(r"```\n(.*\n)*?.*\baws |```\n(.*\n)*?.*\blfs ", text), "no command to run"


def test_pages_that_pages_point_at_are_there() -> None:
    for path in FOLDER.glob("*.md"):
        for name in re.findall(r"`([a-z]+(?:-[a-z]+)+)`", path.read_text(encoding="utf-8")):
            if name in {"scan-status"}:
                continue
            known = Path(FOLDER / f"{name}.md").is_file()
            assert known, f"{path.name} points at {name}, which has no page"


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_exists(page: str) -> None:
    import botocore.session
    from botocore import xform_name

    session = botocore.session.get_session()
    text = (FOLDER / f"{page}.md").read_text(encoding="utf-8")
    for service, command in re.findall(r"\baws ([a-z0-9-]+) ([a-z0-9-]+)", text):
        if (service, command) == ("logs", "tail"):
            continue  # a command of the CLI itself, over several operations
        operations = session.get_service_model(service).operation_names
        assert command in {xform_name(name, "-") for name in operations}, f"{service} {command}"
