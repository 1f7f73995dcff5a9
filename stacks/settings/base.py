"""Base class of the sections, and the value types that several sections share."""

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


class SettingsSection(BaseModel):
    """Frozen section of an environment file, in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def matching(pattern: str, what: str) -> AfterValidator:
    """Return a validator of text that must match a pattern.

    Args:
        pattern: Regular expression of the whole text.
        what: Description of what the text must be, with an example.
    """

    def validate(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{value!r} is not {what}")
        return value

    return AfterValidator(validate)


def _twelve_digits(value: Any) -> Any:
    if isinstance(value, int):
        raise ValueError(
            f'write the account in quotes, "{value:012d}", so that YAML keeps its leading zeros'
        )
    return value


_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
Email = Annotated[
    str,
    matching(
        rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~.-]+@({_LABEL}\.)+{_LABEL}",
        "an e-mail address; write one like team@example.com",
    ),
]
AccountId = Annotated[
    str,
    BeforeValidator(_twelve_digits),
    matching(r"[0-9]{12}", 'an account: write its 12 digits in quotes, "123456789012"'),
]
# A session or a whole account does not identify a person or a team.
RoleArn = Annotated[
    str,
    matching(
        r"arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/[A-Za-z0-9+=,.@_/-]+",
        "the ARN of a role (or user), like arn:aws:iam::123456789012:role/people/researchers",
    ),
]
PERMISSION_SET = "permission-set/"
Principal = Annotated[
    str,
    matching(
        rf"arn:aws[a-z-]*:iam::[0-9]{{12}}:(role|user)/[A-Za-z0-9+=,.@_/-]+|{PERMISSION_SET}[\w+=,.@-]{{1,32}}",
        "the ARN of a role (or user), like arn:aws:iam::123456789012:role/people/researchers, or "
        "a permission set of IAM Identity Center, like permission-set/Researchers",
    ),
]
BoundaryPolicy = Annotated[
    str,
    matching(
        r"(arn:aws[a-z-]*:iam::([0-9]{12}|aws):)?policy/([\x21-\x7e]+/)?[\w+=,.@-]{1,128}|none|managed",
        "none, managed, or a policy of your own: its ARN, or policy/NAME with its path, like "
        "policy/mandated/boundary",
    ),
]
KmsKeyArn = Annotated[
    str,
    matching(
        r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/(mrk-[0-9a-f]{32}|[0-9a-f-]{36})",
        "the ARN of a KMS key (no alias), like arn:aws:kms:REGION:ACCOUNT:key/ID",
    ),
]
InstanceType = Annotated[
    str,
    matching(r"ml\.[a-z0-9-]+\.[a-z0-9]+", "an instance type of SageMaker, like ml.p5.48xlarge"),
]


# CloudWatch Logs keeps events for at most 3653 days. A number that it does not offer is rounded up:
# docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
LogDays = Annotated[int, Field(ge=1, le=3653)]


def duplicates(key: str, names: Sequence[str]) -> Iterator[str]:
    """Yield names that are used twice; names that differ in case only count as the same."""
    folded = [name.casefold() for name in names]
    for name in sorted({name for name in names if folded.count(name.casefold()) > 1}):
        yield f"{key}: {name!r} is listed twice; each name must be unique"
