"""A bucket with a customer-managed key must deny uploads that are encrypted with anything else."""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate, as_list

ENCRYPTION = "s3:x-amz-server-side-encryption"
# Condition keys of requests with another KMS key, with keys of S3, and with a key of the caller.
KEYS = {
    f"{ENCRYPTION}-aws-kms-key-id": "another KMS key",
    ENCRYPTION: "keys of S3 (AES256)",
    f"{ENCRYPTION}-customer-algorithm": "a key of the caller (SSE-C)",
}


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield buckets that have a key but lack one of the denials."""
    denied: dict[str, set[str]] = {}
    for _, policy in template.of_type("AWS::S3::BucketPolicy"):
        for statement in policy["PolicyDocument"]["Statement"]:
            if statement["Effect"] == "Deny" and "s3:PutObject" in as_list(statement["Action"]):
                for condition in statement.get("Condition", {}).values():
                    denied.setdefault(str(policy["Bucket"]), set()).update(condition)
    for logical_id, bucket in template.of_type("AWS::S3::Bucket"):
        if "KMSMasterKeyID" not in str(bucket.get("BucketEncryption")):
            continue
        for key, encryption in KEYS.items():
            if key not in denied.get(str({"Ref": logical_id}), set()):
                yield RuleViolation(logical_id, f"accepts objects encrypted with {encryption}")
