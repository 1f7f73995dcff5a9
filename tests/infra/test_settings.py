"""Tests that all mistakes of an environment file are reported at once, with value and fix."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from stacks.bootstrap import bootstrap_arguments
from stacks.errors import SettingsError
from stacks.settings import read_environment
from tests.infra.conftest import OURS, ROOT, TESTS

DEV: dict[str, Any] = yaml.safe_load((OURS / "dev.yaml").read_text(encoding="utf-8"))
EVERYTHING: dict[str, Any] = yaml.safe_load((TESTS / "everything.yaml").read_text(encoding="utf-8"))
EKS: dict[str, Any] = yaml.safe_load((TESTS / "eks.yaml").read_text(encoding="utf-8"))


def _with(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with values set at dotted paths."""
    changed: dict[str, Any] = yaml.safe_load(yaml.safe_dump(base))
    for place, value in changes.items():
        *path, last = place.split(".")
        section: Any = changed
        for part in path:
            section = section[int(part)] if part.isdigit() else section.setdefault(part, {})
        if isinstance(section, list):
            section[int(last)] = value
        else:
            section[last] = value
    return changed


def _message(tmp_path: Path, content: dict[str, Any]) -> str:
    (tmp_path / f"{content['name']}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        read_environment(tmp_path, content["name"])
    return str(caught.value)


MISTAKES: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parent / "invalid_settings.yaml").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake["mistake"])
def test_a_mistake_is_named_with_its_fix(tmp_path: Path, mistake: dict[str, Any]) -> None:
    base = {"dev": DEV, "everything": EVERYTHING, "eks": EKS}[mistake["in"]]
    message = _message(tmp_path, _with(base, mistake["put"]))
    assert mistake["says"] in message
    assert message.splitlines()[0].endswith(("problem", "problems"))


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    changes = {"owner": "nobody", "network.zone": 1, "network.cidr": "x", "monitoring.page": []}
    message = _message(tmp_path, _with(DEV, changes))
    assert "4 problems" in message
    for place in ("owner:", "network.zone:", "network.cidr:", "monitoring.page:"):
        assert place in message


def test_values_and_rules_are_reported_together(tmp_path: Path) -> None:
    changes = {"name": "devel", "owner": "nobody", "network.cidr": "10.0.0.0/8", "protected": True}
    (tmp_path / "dev.yaml").write_text(yaml.safe_dump(_with(DEV, changes)), encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        read_environment(tmp_path, "dev")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "owner",
        "protected",
    ]
    changes.pop("protected")
    (tmp_path / "dev.yaml").write_text(yaml.safe_dump(_with(DEV, changes)), encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        read_environment(tmp_path, "dev")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "owner",
        "name",
        "network.cidr",
    ]


def test_an_invalid_value_hides_the_rules_that_depend_on_it(tmp_path: Path) -> None:
    changes = {"hyperpod.groups.0.count": "one", "cost_centre": "R&D"}
    problems = _message(tmp_path, _with(EKS, changes)).splitlines()[1:]
    assert [problem.strip().partition(":")[0] for problem in problems] == [
        "hyperpod.groups.0.count",
        "cost_centre",
    ]


def test_two_invalid_values_of_one_item_do_not_switch_its_section_off(tmp_path: Path) -> None:
    package = {"url": "http://example.com/enroot.deb", "sha256": "abc"}
    changes = {"hyperpod.container_packages": [package], "hyperpod.task_governance": None}
    problems = _message(tmp_path, _with(EVERYTHING, changes)).splitlines()[1:]
    assert [problem.strip().partition(":")[0] for problem in problems] == [
        "hyperpod.container_packages.0.url",
        "hyperpod.container_packages.0.sha256",
    ]


def test_a_section_switched_off_by_name_keeps_its_settings(tmp_path: Path) -> None:
    changes = {"hyperpod.enabled": False}
    (tmp_path / "eks.yaml").write_text(yaml.safe_dump(_with(EKS, changes)), encoding="utf-8")
    assert read_environment(tmp_path, "eks").hyperpod.groups


def test_anchors_and_a_byte_order_mark_are_accepted(tmp_path: Path) -> None:
    text = (OURS / "dev.yaml").read_text(encoding="utf-8")
    text = text.replace(
        "page: [platform-team@example.com]", "page: &p [a@example.com]\n  events: *p"
    )
    (tmp_path / "dev.yaml").write_text("\ufeff" + text, encoding="utf-8")
    assert read_environment(tmp_path, "dev").monitoring.events == ("a@example.com",)


CASES = sorted((ROOT.parent / "shared" / "cases" / "platform").glob("c*.yaml"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_recorded_mistakes_are_named_with_their_source(tmp_path: Path, case: Path) -> None:
    (tmp_path / case.name).write_bytes(case.read_bytes())
    with pytest.raises(SettingsError) as caught:
        read_environment(tmp_path, case.stem)
    for problem in caught.value.problems:
        assert problem.endswith(")") or "overrides: {" in problem, problem


def test_two_environments_with_one_prefix(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({**DEV, "name": "other"}))
    message = _message(tmp_path, DEV)
    assert "'temper-dev' is also the prefix of other.yaml" in message
    (tmp_path / "third.yaml").write_text(yaml.safe_dump({**DEV, "name": "third"}))
    message = _message(tmp_path, DEV)
    assert "1 problem\n" in message
    assert "'temper-dev' is also the prefix of other.yaml, third.yaml" in message


@pytest.mark.parametrize("prefix", ["temper", "temper-dev-two"])
def test_a_prefix_that_begins_with_another(tmp_path: Path, prefix: str) -> None:
    other = {**DEV, "name": "other", "prefix": prefix}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other))
    assert "choose prefixes of which none begins with another" in _message(tmp_path, DEV)


def test_one_log_group_has_one_owner(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(
        yaml.safe_dump({**DEV, "name": "other", "prefix": "other", "account": "123456789012"})
    )
    message = _message(tmp_path, {**DEV, "account": "123456789012"})
    assert "other.yaml owns /aws/sagemaker/TrainingJobs" in message


def test_environments_of_different_accounts_may_share_a_prefix(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(
        yaml.safe_dump({**DEV, "name": "other", "account": "210987654321"})
    )
    (tmp_path / "dev.yaml").write_text(yaml.safe_dump({**DEV, "account": "123456789012"}))
    assert read_environment(tmp_path, "dev").prefix == "temper-dev"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("name: [unclosed", "not valid YAML"),
        ("- a list", "a mapping of settings is expected, not list"),
        ("", "the file is empty; environments/dev.yaml is an example"),
        ("# nothing yet\n", "the file is empty"),
        ("network:\n\tmode: private\n", r"line 2, column 1\); indent with spaces, not tabs"),
        ("name: dev\nname: dev\n", r"the key 'name' stands twice in one section \(line 2"),
        ("network: {mode: private, mode: isolated}\n", "the key 'mode' stands twice"),
        ("name: dev\n---\nname: prod\n", "expected a single document in the stream, but found"),
        ("training: *nothing\n", r"found undefined alias \(line 1, column 11\)"),
        ("training: !Ref Other\n", "could not determine a constructor for the tag '!Ref'"),
        ("training: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
        (b"name: d\xe9v\n", r"not UTF-8 \(byte 7\); save the file in the encoding UTF-8"),
        ("name: dev\n".encode("utf-16"), "not UTF-8"),
        (b"name: dev\x00\n", "not valid YAML: unacceptable character #x0000"),
    ],
)
def test_a_file_that_is_not_an_environment(tmp_path: Path, content: str | bytes, text: str) -> None:
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "dev.yaml").write_bytes(raw)
    with pytest.raises(SettingsError, match=text):
        read_environment(tmp_path, "dev")


def test_an_environment_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "dev.yaml").write_text(yaml.safe_dump(DEV))
    with pytest.raises(SettingsError, match=r"there is no such file; .* has dev"):
        read_environment(tmp_path, "staging")


def test_a_name_that_is_not_the_file_s(tmp_path: Path) -> None:
    (tmp_path / "dev.yaml").write_text(yaml.safe_dump({**DEV, "name": "prod"}))
    with pytest.raises(SettingsError, match="'prod' is not the file's name; write 'dev'"):
        read_environment(tmp_path, "dev")


def test_a_mistake_ends_synthesis_without_a_traceback() -> None:
    """Run in a separate process, as the CDK CLI does."""
    done = subprocess.run(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "CDK_CONTEXT_JSON": '{"env": "staging"}'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "environments/staging.yaml: 1 problem" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_account_is_bootstrapped_as_the_stacks_expect_it(tmp_path: Path) -> None:
    content = _with(DEV, {"account": "111122223333", "cdk_qualifier": "mine"})
    (tmp_path / "dev.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert bootstrap_arguments(read_environment(tmp_path, "dev")) == [
        "aws://111122223333/us-east-1",
        *("--qualifier", "mine", "--toolkit-stack-name", "CDKToolkit-mine"),
    ]
    assert bootstrap_arguments(read_environment(OURS, "dev")) == []
