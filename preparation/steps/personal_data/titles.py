"""Titles before a name."""

import re

_WORDS = (
    r"(?:\b(?:Mr|Mrs|Ms|Miss|Mx|Dr|Dra|Prof|Sr|Sra|Srta|Mme|Mlle|Herr|Frau|Sir|Don|Doña|Dott|Sig)"
    r"\b\.?\s)+"
)
TITLE = re.compile(_WORDS + "$", re.IGNORECASE)
"""Titles at the end of a text, before a name."""

TITLE_BEFORE = re.compile(_WORDS, re.IGNORECASE)
"""Titles at the beginning of a name."""
