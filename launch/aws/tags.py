r"""Values of tags that SageMaker accepts.

SageMaker's pattern for keys and values is `^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$`, with at most 256
characters in a value: narrower than that of most services, which accept any character.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Tag.html
"""

from __future__ import annotations

import unicodedata

MAX_TAG_LENGTH = 256
_PUNCTUATION = frozenset("_.:/=+-@")


def invalid_characters(value: str) -> str:
    """Return the characters of a tag's value that SageMaker rejects, each once."""
    return "".join(dict.fromkeys(char for char in value if not _is_valid(char)))


def tag_value(text: str) -> str:
    r"""Return a name as a tag's value: `CORP\anna` becomes `CORP/anna`, others get `_`.

    Only for names that people do not choose for this purpose, such as their login names.
    """
    text = text.replace("\\", "/")
    return "".join(char if _is_valid(char) else "_" for char in text)[:MAX_TAG_LENGTH]


def _is_valid(char: str) -> bool:
    return char in _PUNCTUATION or unicodedata.category(char)[0] in "LZN"
