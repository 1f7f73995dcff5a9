"""A bucket with a customer-managed key must deny uploads that name another key."""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate, as_list

KEY = "s3:x-amz-server-side-encryption-aws-kms-key-id"


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield buckets that have a key but no such denial."""
    denying = {
        str(policy["Bucket"])
        for _, policy in template.of_type("AWS::S3::BucketPolicy")
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Deny"
        and "s3:PutObject" in as_list(statement["Action"])
        and KEY in str(statement.get("Condition"))
    }
    for logical_id, bucket in template.of_type("AWS::S3::Bucket"):
        managed = "KMSMasterKeyID" in str(bucket.get("BucketEncryption"))
        if managed and str({"Ref": logical_id}) not in denying:
            yield RuleViolation(logical_id, "accepts objects encrypted with any key")
