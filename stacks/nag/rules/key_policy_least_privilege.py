"""A key policy must not allow decryption by IAM policies alone: it names users, or a service."""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate, allows, as_list, as_text


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield keys that the entire account, or anyone, can use."""
    for logical_id, key in template.of_type("AWS::KMS::Key"):
        for statement in key["KeyPolicy"]["Statement"]:
            if not allows(statement, "kms:Decrypt"):
                continue
            principals = statement["Principal"]
            named = as_list(principals.get("AWS")) if isinstance(principals, dict) else ["*"]
            wide = [as_text(p) for p in named if as_text(p).endswith((":root", "*"))]
            if wide and "kms:ViaService" not in str(statement.get("Condition")):
                yield RuleViolation(logical_id, f"{wide} may decrypt")
