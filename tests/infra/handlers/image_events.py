"""Events about scanned images, with the fields of the examples in AWS's documentation.

Basic scanning: https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html
Enhanced scanning and findings:
https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-scanning-enhanced-events.html
Approvals: https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-cwe.html
"""

from typing import Any

ACCOUNT = "123456789012"
REGION = "us-east-1"


def basic_scan(
    digest: str, status: str = "COMPLETE", repository: str = "temper-dev/gpu", **counts: int
) -> dict[str, Any]:
    """Return the event of ECR; the documented example has an empty list of tags."""
    return {
        "version": "0",
        "id": "85fc3613-e913-7fc4-a80c-a3753e4aa9ae",
        "detail-type": "ECR Image Scan",
        "source": "aws.ecr",
        "account": ACCOUNT,
        "time": "2019-10-29T02:36:48Z",
        "region": REGION,
        "resources": [f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{repository}"],
        "detail": {
            "scan-status": status,
            "repository-name": repository,
            "finding-severity-counts": counts,
            "image-digest": digest,
            "image-tags": [],
        },
    }


def enhanced_scan(digest: str, repository: str = "temper-dev/gpu", **counts: int) -> dict[str, Any]:
    """Return the event of Amazon Inspector, which names the repository by its ARN."""
    arn = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{repository}"
    return {
        "version": "0",
        "id": "739c0d3c-4f02-85c7-5a88-94a9EXAMPLE",
        "detail-type": "Inspector2 Scan",
        "source": "aws.inspector2",
        "account": ACCOUNT,
        "time": "2021-12-03T18:03:16Z",
        "region": REGION,
        "resources": [arn],
        "detail": {
            "scan-status": "INITIAL_SCAN_COMPLETE",
            "repository-name": arn,
            "finding-severity-counts": {**counts, "TOTAL": sum(counts.values())},
            "image-digest": digest,
            "image-tags": ["latest"],
        },
    }


def finding(
    digest: str, severity: str, status: str = "ACTIVE", repository: str = "temper-dev/gpu"
) -> dict[str, Any]:
    """Return the event of one finding of Amazon Inspector, without the details of the package."""
    arn = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{repository}/{digest}"
    image = {
        "architecture": "amd64",
        "imageHash": digest,
        "imageTags": ["latest"],
        "platform": "AMAZON_LINUX_2",
        "pushedAt": "Dec 3, 2021, 6:02:13 PM",
        "registry": ACCOUNT,
        "repositoryName": repository,
    }
    return {
        "version": "0",
        "id": "42dbea55-45ad-b2b4-87a8-afaEXAMPLE",
        "detail-type": "Inspector2 Finding",
        "source": "aws.inspector2",
        "account": ACCOUNT,
        "time": "2021-12-03T18:02:30Z",
        "region": REGION,
        "resources": [arn],
        "detail": {
            "awsAccountId": ACCOUNT,
            "firstObservedAt": "Dec 3, 2021, 6:02:30 PM",
            "inspectorScore": 6.5,
            "resources": [
                {
                    "details": {"awsEcrContainerImage": image},
                    "id": arn,
                    "partition": "N/A",
                    "region": "N/A",
                    "type": "AWS_ECR_CONTAINER_IMAGE",
                }
            ],
            "severity": severity,
            "status": status,
            "title": "CVE-2019-17498 - libssh2",
            "type": "PACKAGE_VULNERABILITY",
        },
    }


def approval(kind: str = "gpu", operation: str = "Update") -> dict[str, Any]:
    """Return the event of a parameter that was written."""
    name = f"/temper-dev/images/{kind}/approved"
    return {
        "version": "0",
        "id": "9547ef2d-3b7e-4057-b6cb-5fdf09ee7c8f",
        "detail-type": "Parameter Store Change",
        "source": "aws.ssm",
        "account": ACCOUNT,
        "time": "2017-05-22T16:44:48Z",
        "region": REGION,
        "resources": [f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{name}"],
        "detail": {"operation": operation, "name": name, "type": "String"},
    }
