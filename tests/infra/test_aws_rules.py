"""Tests of the rules of AWS against the service's own description, and of overrides of tables."""

from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml

from stacks.aws_data.tables import instances, regions
from stacks.errors import SettingsError
from stacks.settings import Environment, hyperpod_rules, read_environment
from stacks.settings.address_rules import zone_id_prefix
from stacks.settings.aws_rules import RULES
from stacks.settings.schedules import schedule_problem
from stacks.settings.table_checks import table_warnings
from tests.infra.conftest import OURS, TESTS, synthesize


def _members(shape: str) -> dict[str, Any]:
    model = botocore.session.get_session().get_service_model("sagemaker")
    structure: Any = model.shape_for(shape)
    return dict(structure.members)


def test_name_patterns_are_those_of_the_service() -> None:
    partition = _members("ClusterSlurmConfig")["PartitionNames"].member.metadata["pattern"]
    assert hyperpod_rules.PARTITION.pattern == partition
    for shape, member in (("ComputeQuotaTarget", "TeamName"), ("PriorityClass", "Name")):
        pattern = _members(shape)[member].metadata["pattern"]
        ours = hyperpod_rules.TEAM_OR_PRIORITY.pattern
        assert pattern.removesuffix("{0,39}?").rstrip("?") == ours.rstrip("?")
    classes = _members("SchedulerConfig")["PriorityClasses"].metadata
    assert classes["max"] == hyperpod_rules.MAXIMUM_PRIORITIES


def test_every_rule_names_its_source() -> None:
    assert all(rule.source.startswith("docs") for rule in RULES)


@pytest.mark.parametrize(
    "expression",
    [
        # Examples of the user guide of EventBridge Scheduler, and one for each special value.
        "cron(15 10 ? * 6L 2022-2023)",
        "cron(15 10 * * ? *)",
        "cron(0 18 ? * MON-FRI *)",
        "cron(0/15 8 1 * ? *)",
        "cron(0 8 L * ? *)",
        "cron(0 8 15W JAN,jul ? *)",
        "cron(0,30 */2 ? * TUE#2 *)",
        "rate(5 minutes)",
        "rate(1 hour)",
    ],
)
def test_valid_schedules_are_accepted(expression: str) -> None:
    assert schedule_problem(expression) is None


@pytest.mark.parametrize(
    "expression",
    [
        "cron(99 99)",
        "cron(60 8 * * ? *)",
        "cron(0 8 * * * *)",
        "cron(0 8 ? * ? *)",
        "cron(0 8 32 * ? *)",
        "cron(0 8 ? * 0 *)",
        "cron(0 8 ? * MON#6 *)",
        "cron(0 8 * JANUARY ? *)",
        "cron(0 8 * * ? 1969)",
        "cron(0/0 8 * * ? *)",
        "cron(30-10 8 * * ? *)",
        "rate(0 minutes)",
    ],
)
def test_invalid_schedules_are_refused(expression: str) -> None:
    problem = schedule_problem(expression)
    assert problem
    assert "write" in problem or "must" in problem


def _frankfurt(**changes: Any) -> dict[str, Any]:
    """Return a cluster of a type that the table does not list in Frankfurt."""
    content: dict[str, Any] = yaml.safe_load((TESTS / "eks.yaml").read_text(encoding="utf-8"))
    content |= {"name": "frankfurt", "region": "eu-central-1"}
    content["network"]["zones"] = [
        {"name": "eu-central-1a", "id": "euc1-az2"},
        {"name": "eu-central-1b", "id": "euc1-az3"},
    ]
    group = {"name": "workers", "instance": "ml.p5.48xlarge", "count": 1, **changes}
    content["hyperpod"] |= {"quotas": {"ml.p5.48xlarge": 1}, "groups": [group]}
    content["hyperpod"]["task_governance"]["teams"] = []
    content["bedrock"]["throughput"] = []
    return content


def _read(folder: Path, content: dict[str, Any]) -> Environment:
    (folder / f"{content['name']}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return read_environment(folder, content["name"])


def test_a_table_says_no_and_how_to_override_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        _read(tmp_path, _frankfurt())
    assert "no zone of eu-central-1a (euc1-az2), eu-central-1b (euc1-az3) offers" in str(
        caught.value
    )
    assert "overrides: {instance-zones: reason}" in str(caught.value)


def test_a_training_plan_proves_that_the_zone_has_the_type(tmp_path: Path) -> None:
    plan = "arn:aws:sagemaker:eu-central-1:111122223333:training-plan/winter"
    content = _frankfurt(training_plan=plan, training_plan_zone="eu-central-1a")
    [(check, warning)] = table_warnings(_read(tmp_path, content))
    assert check == "instance-zones"
    assert f"Accepted: the training plan {plan} is for that zone" in warning


def test_an_overridden_table_warns_with_the_reason(tmp_path: Path) -> None:
    content = {**_frankfurt(), "overrides": {"instance-zones": "AWS confirmed it in case 42"}}
    [(_, warning)] = table_warnings(_read(tmp_path, content))
    assert warning.endswith("Accepted: AWS confirmed it in case 42")


def test_other_tables_can_be_overridden_too(tmp_path: Path) -> None:
    content = _frankfurt(instance="ml.p9.48xlarge")
    content["hyperpod"]["quotas"] = {"ml.p9.48xlarge": 1}
    content["region"] = "eu-central-9"
    content["network"]["zones"] = [{"name": "eu-central-9a"}, {"name": "eu-central-9b"}]
    content["overrides"] = {
        "regions": "opened last week",
        "instance-types": "announced last week",
    }
    warnings = dict(table_warnings(_read(tmp_path, content)))
    assert set(warnings) == {"regions", "instance-types"}


def test_an_override_that_nothing_needs_is_reported(tmp_path: Path) -> None:
    content = yaml.safe_load((OURS / "dev.yaml").read_text(encoding="utf-8"))
    content["overrides"] = {"instance-zones": "no longer needed"}
    [(_, warning)] = table_warnings(_read(tmp_path, content))
    assert "nothing contradicts the table any more; remove it" in warning


def test_synthesis_shows_the_warning(tmp_path: Path) -> None:
    content = yaml.safe_load((OURS / "dev.yaml").read_text(encoding="utf-8"))
    content["overrides"] = {"instance-zones": "no longer needed"}
    _read(tmp_path, content)
    assembly = synthesize(tmp_path, "dev", tmp_path / "out")
    metadata = (assembly.outdir / "manifest.json").read_text(encoding="utf-8")
    for file in assembly.outdir.glob("*.metadata.json"):
        metadata += file.read_text(encoding="utf-8")
    assert "nothing contradicts the table any more" in metadata


def test_zone_ids_of_the_table_belong_to_known_regions() -> None:
    """Compare the derived beginnings of zone ids with the ids that EC2 answers with."""
    derived = {zone_id_prefix(region) for region in regions()}
    ids = {zone.partition("-")[0] for facts in instances().values() for zone in facts.zones}
    assert ids <= derived
