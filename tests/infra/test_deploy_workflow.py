"""The workflow that deploys the platform: what it may do, and what its steps run."""

import re
from pathlib import Path
from typing import Any

import pytest

from emulator.moto_account import ACCOUNT, cdk, cdk_environment, moto_server
from tests.infra.workflow_files import read_workflow, shell


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    return read_workflow("deploy")


def _commands(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_only_pull_requests_and_the_branch_start_it(workflow: dict[Any, Any]) -> None:
    # YAML 1.1 reads the key `on` as true. `pull_request_target` would give forks a token.
    assert workflow[True] == {"pull_request": None, "push": {"branches": ["main"]}}


def test_jobs_get_no_more_than_a_token(workflow: dict[Any, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["permissions"] == {"contents": "read", "id-token": "write"}


def test_the_subjects_of_the_tokens_are_those_that_the_roles_trust(
    workflow: dict[Any, Any],
) -> None:
    """A job with an environment has a token of that environment, not of a pull request."""
    diff, deploy = workflow["jobs"]["diff"], workflow["jobs"]["deploy"]
    assert "environment" not in diff and "pull_request" in diff["if"]
    assert "head.repo.full_name == github.repository" in diff["if"]
    assert deploy["environment"] == "${{ matrix.env }}" and "'push'" in deploy["if"]


@pytest.mark.parametrize("name", ["check", "deploy", "retrain"])
def test_actions_are_pinned_and_scripts_take_no_expressions(name: str) -> None:
    for job in read_workflow(name)["jobs"].values():
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"])
            else:
                assert "${{" not in step["run"]


@pytest.mark.parametrize(
    ("job", "options"),
    [
        ("diff", "cdk --context env=prod diff --all --app cdk.out --method=template"),
        ("deploy", "temper deploy-environment --env prod -- --require-approval never"),
    ],
)
def test_the_steps_name_the_region_and_run_the_command(
    workflow: dict[Any, Any], job: str, options: str, tmp_path: Path
) -> None:
    region, command = _commands(workflow["jobs"][job])
    output = tmp_path / "output"
    shell(region, TEMPER_ENV="prod", GITHUB_OUTPUT=str(output))
    assert output.read_text() == "region=us-east-1\n"
    # `make --dry-run` prints what it would run, with what it would install before.
    lines = shell(f"{command} --dry-run", TEMPER_ENV="prod").splitlines()
    assert lines[-1].endswith(options)


@pytest.mark.slow
def test_a_pull_request_shows_the_difference(workflow: dict[Any, Any], tmp_path: Path) -> None:
    """The command of the step runs in an emulated account, in which nothing is deployed yet."""
    command = _commands(workflow["jobs"]["diff"])[-1]
    line = shell(f"{command} --dry-run", TEMPER_ENV="dev").splitlines()[-1]
    with moto_server(tmp_path / "moto.log") as port:
        variables = cdk_environment(port, "us-east-1", tmp_path)
        target = f"aws://{ACCOUNT}/us-east-1"
        cdk("bootstrap", ["bootstrap", target], variables, tmp_path, cwd=tmp_path)
        shown = shell(f"({line}) 2>&1", **variables)
    assert "Stack temper-dev-security" in shown and "[+] AWS::KMS::Key" in shown
