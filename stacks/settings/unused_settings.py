"""Settings that would have no effect, because what they belong to is not created.

A section that is disabled by name (`enabled: false`) may keep its settings: it was switched off on
purpose, and is switched on again by one word.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stacks.settings.base import SettingsSection
from stacks.settings.environment import Environment


@dataclass(frozen=True)
class Precondition:
    """Condition without which settings of one section have no effect.

    Attributes:
        section: Name of the section.
        keys: Keys that depend on the condition; empty for all but `enabled`.
        holds: Returns whether the condition holds.
        fix: Setting that makes it hold.
    """

    section: str
    keys: tuple[str, ...]
    holds: Callable[[Environment], bool]
    fix: str


def unused_settings(environment: Environment) -> Iterator[str]:
    """Yield the settings that are written in the file and have no effect."""
    for condition in PRECONDITIONS:
        section: SettingsSection = getattr(environment, condition.section)
        if condition.holds(environment):
            continue
        for key in condition.keys or sorted(section.model_fields_set - {"enabled"}):
            if key in section.model_fields_set:
                yield (
                    f"{condition.section}.{key}: has no effect without {condition.fix}; "
                    "set it, or remove the key"
                )


def _own_nat(environment: Environment) -> bool:
    return environment.network.mode == "private" or environment.network.existing is not None


def _hyperpod(environment: Environment) -> bool:
    return environment.hyperpod.enabled or "enabled" in environment.hyperpod.model_fields_set


def _bedrock(environment: Environment) -> bool:
    return environment.bedrock.enabled or "enabled" in environment.bedrock.model_fields_set


def _serving(environment: Environment) -> bool:
    return environment.serving.enabled or "enabled" in environment.serving.model_fields_set


PRECONDITIONS = (
    Precondition("network", ("nat_gateways", "reserved_zones"), _own_nat, "network.mode: private"),
    Precondition(
        "network",
        ("endpoint_zones", "endpoint_zones_lacking"),
        lambda environment: environment.network.endpoints == "needed",
        "network.endpoints: needed",
    ),
    Precondition("hyperpod", (), _hyperpod, "hyperpod.enabled: true"),
    Precondition("storage", ("lustre",), _hyperpod, "hyperpod.enabled: true"),
    Precondition(
        "bedrock",
        ("undeploy", "undeploy_timezone", "idle_hours"),
        _bedrock,
        "bedrock.enabled: true",
    ),
    Precondition(
        "bedrock",
        ("log_days",),
        lambda environment: environment.bedrock.invocation_logging,
        "bedrock.invocation_logging: true",
    ),
    Precondition("serving", (), _serving, "serving.enabled: true"),
    Precondition(
        "security",
        ("model_deployers",),
        lambda environment: environment.serving.enabled,
        "serving.enabled: true",
    ),
    Precondition(
        "images",
        ("build_compute",),
        lambda environment: environment.images.build,
        "images.build: true",
    ),
    Precondition(
        "training",
        ("log_days",),
        lambda environment: environment.training.own_log_group,
        "training.own_log_group: true",
    ),
    Precondition(
        "monitoring",
        ("trail_days",),
        lambda environment: environment.monitoring.trail,
        "monitoring.trail: true",
    ),
)
