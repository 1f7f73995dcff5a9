"""Rules of AWS for tags: those of the platform, and those that an environment adds."""

import unicodedata
from collections.abc import Iterator

from stacks.settings.environment import Environment

# Compared without case: IAM takes keys that differ in case only for the same.
# docs.aws.amazon.com/IAM/latest/UserGuide/id_tags.html
OWN_KEYS = ("Owner", "Environment", "CostCentre", "Project", "TemperPrefix")
OWN_PREFIXES = ("temper:", "aws:")
# A resource has at most 50 tags; jobs carry seven of the platform, and provisioned throughput five.
MAXIMUM_TAGS = 40


def tag_problems(environment: Environment) -> Iterator[str]:
    """Yield tags that AWS would refuse, and tags that the platform sets itself."""
    yield from _value_problems("cost_centre", environment.cost_centre)
    yield from _value_problems("owner", environment.owner)
    tags = environment.tags
    if len(tags) > MAXIMUM_TAGS:
        yield f"tags: {len(tags)} tags; a resource has 50 with ours, so name at most {MAXIMUM_TAGS}"
    seen: dict[str, str] = {}
    for key, value in tags.items():
        yield from _key_problems(key)
        if key.casefold() in seen:
            yield (
                f"tags: {key!r} and {seen[key.casefold()]!r} differ in case only, which IAM takes "
                "for one key; remove one"
            )
        seen[key.casefold()] = key
        yield from _value_problems(f"tags.{key}", value)


def _key_problems(key: str) -> Iterator[str]:
    if not 1 <= len(key) <= 128 or key != key.strip() or _refused(key):
        yield (
            f"tags: the key {key!r} must have 1 to 128 letters, digits, inner spaces and "
            "_ . : / = + - @; rename it"
        )
    if key.casefold() in {own.casefold() for own in OWN_KEYS}:
        yield f"tags: {key!r} is a tag that the platform sets itself; remove it, or rename it"
    if key.casefold().startswith(OWN_PREFIXES):
        yield f"tags: keys that begin with {key.partition(':')[0]}: are reserved; rename {key!r}"


def _value_problems(key: str, value: str) -> Iterator[str]:
    if value != value.strip() or not value:
        yield f"{key}: {value!r} is blank or has spaces at its ends, which AWS removes; correct it"
    if len(value) > 256:
        yield f"{key}: {len(value)} characters; the value of a tag has at most 256"
    refused = _refused(value)
    if refused:
        yield (
            f"{key}: {value!r} is a tag of every resource, and tags of SageMaker cannot have "
            f"{' '.join(map(_shown, refused))}; use letters, digits, spaces and _ . : / = + - @"
        )


def _refused(text: str) -> list[str]:
    return sorted({character for character in text if not _in_tag(character)})


def _in_tag(character: str) -> bool:
    return unicodedata.category(character)[0] in "LZN" or character in "_.:/=+-@"


def _shown(character: str) -> str:
    return character if character.isprintable() else repr(character)
