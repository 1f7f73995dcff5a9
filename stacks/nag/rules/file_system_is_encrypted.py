"""Lustre file systems are persistent and under a key of ours."""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yields scratch file systems and those under AWS's key."""
    for logical_id, system in template.of_type("AWS::FSx::FileSystem"):
        if "KmsKeyId" not in system:
            yield RuleViolation(logical_id, "no key of ours")
        kind = system.get("LustreConfiguration", {}).get("DeploymentType", "")
        if not kind.startswith("PERSISTENT"):
            yield RuleViolation(logical_id, f"DeploymentType: {kind or 'SCRATCH_1, the default'}")
