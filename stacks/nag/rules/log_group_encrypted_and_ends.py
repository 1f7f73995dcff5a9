"""Every log group has a key and a retention period."""

from collections.abc import Iterator

from stacks.nag.template import Finding, Template


def check(template: Template) -> Iterator[Finding]:
    """Yields groups that keep for ever, or in the clear."""
    for logical_id, group in template.of_type("AWS::Logs::LogGroup"):
        missing = [name for name in ("KmsKeyId", "RetentionInDays") if name not in group]
        if missing:
            yield Finding(logical_id, f"without {' and '.join(missing)}")
