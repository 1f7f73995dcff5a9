"""Tests that every alarm of the templates fires for its fault and is silent on a normal day."""

import pytest

from tests.infra.alarms.account import NAMESPACE, PREFIX
from tests.infra.alarms.evaluation import ALARM, MetricAlarm, Samples, states
from tests.infra.alarms.scenarios import ACCOUNTS, METRICS, AccountScenario, MetricScenario
from tests.infra.alarms.templates import ONLY, alarms_of
from tests.infra.conftest import Assembly

# AWS publishes no formula for the length of the evaluation range: every result must hold for
# ranges of different lengths.
EXTRA_PERIODS = (0, 2, 4)
# A new alarm has no data before its first period; these minutes are not part of a scenario.
WARM_UP_MINUTES = 30


@pytest.fixture(scope="module")
def alarms(everything: Assembly) -> dict[str, MetricAlarm]:
    return alarms_of(everything, PREFIX)


def _fires(alarm: MetricAlarm, samples: dict[str, Samples], hours: float, extra: int) -> bool:
    if not any(samples.values()) and alarm.missing == "notBreaching":
        return False  # without a datapoint each evaluation is OK
    seen = states(alarm, samples, until=int(hours * 3600), extra_periods=extra)
    return ALARM in seen[WARM_UP_MINUTES:]


@pytest.mark.parametrize("scenario", ACCOUNTS, ids=lambda s: s.title)
def test_what_happens_sets_off_its_alarms_and_no_other(
    alarms: dict[str, MetricAlarm], scenario: AccountScenario
) -> None:
    by_name = scenario.account.samples(scenario.hours)
    ours = {name: alarm for name, alarm in alarms.items() if _is_ours(alarm)}
    assert scenario.fires <= set(ours)
    for extra in EXTRA_PERIODS:
        fired = {
            name
            for name, alarm in ours.items()
            if _fires(
                alarm, {ONLY: by_name.get(alarm.metrics[ONLY].name, [])}, scenario.hours, extra
            )
        }
        assert fired == scenario.fires, f"with {extra} periods more in the evaluation range"


@pytest.mark.parametrize("scenario", METRICS, ids=lambda s: f"{s.alarm}: {s.title}")
def test_metrics_of_aws_set_off_their_alarm_or_not(
    alarms: dict[str, MetricAlarm], scenario: MetricScenario
) -> None:
    for extra in EXTRA_PERIODS:
        fired = _fires(alarms[scenario.alarm], dict(scenario.samples), scenario.hours, extra)
        assert fired == scenario.fires, f"with {extra} periods more in the evaluation range"


def test_every_alarm_has_a_scenario_in_which_it_fires_and_one_in_which_it_does_not(
    alarms: dict[str, MetricAlarm],
) -> None:
    fire = {name for scenario in ACCOUNTS for name in scenario.fires}
    fire |= {scenario.alarm for scenario in METRICS if scenario.fires}
    assert set(alarms) - fire == set(), "no scenario shows that it can fire"
    # All scenarios of an account show its other alarms silent.
    silent = {name for name, alarm in alarms.items() if _is_ours(alarm)}
    silent -= {"bedrock-idle-throughput", "deployment-overdue", "deployment-without-end"}
    silent |= {scenario.alarm for scenario in METRICS if not scenario.fires}
    assert set(alarms) - silent == set(), "no scenario shows that it is silent on a normal day"


def _is_ours(alarm: MetricAlarm) -> bool:
    """Return whether the metric is one that the platform's monitor publishes.

    Those of a deployment come from the scheduled job that watches it.
    """
    metrics = alarm.metrics.values()
    of_deployment = any(key == "Deployment" for one in metrics for key, _ in one.dimensions)
    return {one.namespace for one in metrics} == {NAMESPACE} and not of_deployment
