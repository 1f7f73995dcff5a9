"""Tests that all mistakes of an environment file are reported at once, with value and fix."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

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


def test_two_environments_with_one_prefix(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({**DEV, "name": "other"}))
    message = _message(tmp_path, DEV)
    assert "'temper-dev' is also the prefix of other.yaml" in message


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
        ("", "a mapping of settings is expected, not NoneType"),
    ],
)
def test_a_file_that_is_no_environment(tmp_path: Path, content: str, text: str) -> None:
    (tmp_path / "dev.yaml").write_text(content)
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
