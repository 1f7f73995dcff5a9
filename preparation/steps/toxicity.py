"""Toxic words in rows, counted by kind; a tag, and a filter only where it is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field

from preparation.rows import PreparedRow
from preparation.steps.step import Examination, FilterSection, Finding, Rule

# Words that are also names, or terms of medicine, law or religion, are left out on purpose, as are
# words by which groups call themselves.
_PROFANITY = """
    fuck fucks fucked fucker fuckers fuckin fucking fuckwit motherfucker motherfuckers motherfucking
    clusterfuck f*ck f**k fck shit shits shitty shitting bullshit horseshit shithead shithole
    dipshit batshit sh*t s**t arse arsehole arseholes ass asshole assholes a**hole jackass
    dumbass smartass badass goddamn goddamned bollocks bugger wtf stfu gtfo piss pissed pissing
"""
_INSULT = """
    idiot idiots moron morons moronic imbecile imbeciles bitch bitches bitchy b*tch bastard bastards
    scumbag scumbags douchebag douchebags douche twat twats wanker wankers tosser prick pricks
    dickhead dickheads cocksucker cocksuckers cunt cunts c*nt whore whores slut sluts slutty skank
    loser losers retard retards retarded libtard libtards fatso fatass shitbag dumbfuck
"""
_SLUR = """
    nigger niggers nigga niggas faggot faggots fag fags dyke dykes tranny trannies shemale shemales
    kike kikes spic spics wetback wetbacks chink chinks gook gooks raghead ragheads towelhead
    towelheads sandnigger coon coons beaner beaners gyppo gyppos paki pakis darkie darkies
"""
_SEXUAL = """
    blowjob blowjobs handjob handjobs cumshot cumshots creampie deepthroat gangbang gangbangs
    jizz milf milfs titties boobs tits dildo dildos porn porno pornhub hentai bukkake rimjob
    horny pussy pussies
"""
WORDS: Mapping[str, str] = {
    word: kind
    for kind, words in (
        ("profanity", _PROFANITY),
        ("insult", _INSULT),
        ("slur", _SLUR),
        ("sexual", _SEXUAL),
    )
    for word in words.split()
}
"""English words in lower case -> kind."""
_WORD = re.compile(r"[A-Za-z][A-Za-z*]{2,}")
_THREAT = re.compile(
    r"\b(?:kill|hang|drown|shoot)\s+(?:yourself|urself|yourselves)\b"
    r"|\bkys\b"
    r"|\b(?:i|we)(?:\s+will|\s+am\s+going\s+to|\s+are\s+going\s+to|['’]ll|['’]m\s+gonna)\s+"
    r"(?:kill|murder|rape|shoot|stab|behead|hunt\s+down)\s+(?:you|him|her|them|all)\b"
    r"|\b(?:you|they|he|she)\s+(?:should|deserves?\s+to|must)\s+(?:die|be\s+(?:shot|killed|raped))\b",
    re.IGNORECASE,
)
_THREAT_ANCHORS = tuple(
    "kill kys murder rape shoot shot stab behead hunt die hang drown".split()  # noqa: SIM905 (one word a line is longer)
)
KINDS = ("profanity", "insult", "slur", "sexual", "threat")


class ToxicityStep(FilterSection):
    """Counts toxic words by kind.

    A list of words knows no context: quotations, fiction, and texts about abuse are counted too.
    """

    step: Literal["toxicity"]
    max_share: float = Field(default=0.02, ge=0, le=1)
    """Greatest share of toxic words among the words of a row; rows above it are reported, or
    rejected with `action: drop`."""

    def build(self) -> Rule:
        """Return the rule."""
        return _ToxicityRule(self.max_share)


class _ToxicityRule(Rule):
    def __init__(self, max_share: float):
        self._max_share = max_share

    def examine(self, row: PreparedRow) -> Examination:
        parts, said = row.parts(), row.content()
        findings = tuple(
            Finding(kind, index, start, end)
            for index, part in enumerate(parts)
            if part in said
            for kind, start, end in toxic_spans(part.text)
        )
        if not findings:
            return Examination(tags={"toxic_words": 0})
        words = sum(len(part.text.split()) for part in said)
        toxic = len(findings) > self._max_share * words
        return Examination(
            reasons=("toxic",) if toxic else (),
            findings=findings,
            tags={"toxic_words": len(findings)},
        )


def toxic_spans(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield the kind, first character and end of each toxic word or threat."""
    for match in _WORD.finditer(text):
        kind = WORDS.get(match[0].lower())
        if kind is not None:
            yield kind, *match.span()
    lower = text.lower()
    if any(anchor in lower for anchor in _THREAT_ANCHORS):
        for match in _THREAT.finditer(text):
            yield "threat", *match.span()
