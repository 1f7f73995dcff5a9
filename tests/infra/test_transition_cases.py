"""Tests of every row of docs/platform/changes.md, deployed there and back."""

from pathlib import Path
from typing import Any

import pytest

from stacks.errors import DeploymentError
from stacks.transitions.assembly import read_assembly
from stacks.transitions.deployment import deploy
from tests.infra.conftest import ROOT
from tests.infra.template_account import TemplateAccount
from tests.infra.transition_cases import CASES, HEADER, Case, assemble, plan_of, row

PAGE = ROOT / "docs" / "platform" / "changes.md"


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the assemblies that a test made, for those that start from the same one."""
    return {}


def _documented() -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    return text.split("<!-- transitions -->\n")[1].split("<!-- /transitions -->")[0].splitlines()


def _deploy(account: TemplateAccount, folder: Path) -> None:
    arguments: Any = account
    deploy(
        arguments,
        folder,
        run_cdk=account.run_cdk,
        confirm=lambda _: None,
        say=lambda _: None,
    )


def _is(account: TemplateAccount, folder: Path) -> bool:
    stacks = read_assembly(folder)
    return account.templates() == {name: stack.template for name, stack in stacks.items()}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_a_transition_is_as_documented_and_possible(
    case: Case, bases: dict[str, Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    key = f"{case.base} {case.before}"
    if key not in bases:
        bases[key] = assemble(case.base, [case.before], tmp_path_factory.mktemp("base"))
    before, after = bases[key], assemble(case.base, [case.before, case.after], tmp_path / "after")
    plan = plan_of(before, after)
    assert row(case, plan) in _documented(), "run python -m tests.infra.transition_cases"
    account = TemplateAccount()
    _deploy(account, before)
    if plan.refusals:
        with pytest.raises(DeploymentError, match="nothing was deployed"):
            _deploy(account, after)
        assert _is(account, before)
        return
    if case.reversible:
        _deploy(account, after)
        assert _is(account, after)
        _deploy(account, before)
        assert _is(account, before)


def test_the_table_has_no_other_rows() -> None:
    rows = _documented()
    assert tuple(rows[:2]) == HEADER
    assert [line.split(" | ")[0].removeprefix("| ") for line in rows[2:]] == [
        case.title for case in CASES
    ]
