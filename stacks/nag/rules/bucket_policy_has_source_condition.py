"""A bucket that a service may write to names whose requests the service carries out.

Without it anybody's resource of that service could be made to write there.
"""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate, as_list

SOURCES = ("aws:SourceArn", "aws:SourceAccount")


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yields bucket policies that let a service in on anybody's behalf."""
    for logical_id, policy in template.of_type("AWS::S3::BucketPolicy"):
        for statement in policy["PolicyDocument"]["Statement"]:
            principal = statement.get("Principal")
            services = as_list(principal.get("Service")) if isinstance(principal, dict) else []
            named = any(source in str(statement.get("Condition")) for source in SOURCES)
            if statement["Effect"] == "Allow" and services and not named:
                yield RuleViolation(logical_id, f"{services} on anybody's behalf")
