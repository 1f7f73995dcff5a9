"""Base class of the sections, and the value types that several sections share."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, StringConstraints


class SettingsSection(BaseModel):
    """Frozen section of an environment file, in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _email(value: str) -> str:
    name, at, domain = value.partition("@")
    if not (at and name and "." in domain.strip(".") and " " not in value and "@" not in domain):
        raise ValueError(f"{value!r} is not an e-mail address; write one like team@example.com")
    return value


def _twelve_digits(value: Any) -> Any:
    if isinstance(value, int):
        raise ValueError(
            f'write the account in quotes, "{value:012d}", so that YAML keeps its leading zeros'
        )
    return value


Email = Annotated[str, AfterValidator(_email)]
AccountId = Annotated[
    str, BeforeValidator(_twelve_digits), StringConstraints(pattern=r"^[0-9]{12}$")
]
RoleArn = Annotated[
    str,
    StringConstraints(pattern=r"^arn:aws[a-z-]*:(iam|sts)::[0-9]{12}:[A-Za-z0-9+=,.@_/-]+$"),
]
ManagedPolicyArn = Annotated[
    str, StringConstraints(pattern=r"^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/.+$")
]
InstanceType = Annotated[str, StringConstraints(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")]


def duplicates(key: str, names: Sequence[str]) -> Iterator[str]:
    """Yield names that are used twice; names that differ in case only count as the same."""
    folded = [name.casefold() for name in names]
    for name in sorted({name for name in names if folded.count(name.casefold()) > 1}):
        yield f"{key}: {name!r} is listed twice; each name must be unique"
