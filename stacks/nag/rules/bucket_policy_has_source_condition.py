"""A bucket policy that lets a service write must restrict whose requests the service carries out.

Otherwise a resource of that service in any other account could be configured to write there (the
confused deputy problem).
"""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate, as_list

SOURCES = ("aws:SourceArn", "aws:SourceAccount")


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield bucket policies that allow a service on behalf of any account."""
    for logical_id, policy in template.of_type("AWS::S3::BucketPolicy"):
        for statement in policy["PolicyDocument"]["Statement"]:
            principal = statement.get("Principal")
            services = as_list(principal.get("Service")) if isinstance(principal, dict) else []
            named = any(source in str(statement.get("Condition")) for source in SOURCES)
            if statement["Effect"] == "Allow" and services and not named:
                yield RuleViolation(logical_id, f"allows {services} on behalf of any account")
