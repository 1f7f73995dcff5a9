"""Made-up names and words in many locales."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

import yaml

LOCALES = (
    *("en_US", "en_US", "en_US", "en_GB", "en_AU", "en_CA", "en_IN", "es_ES", "es_MX", "es_AR"),
    *("de_DE", "de_AT", "de_CH", "fr_FR", "fr_CA", "it_IT", "pt_BR", "pt_PT", "nl_NL", "pl_PL"),
    *("sv_SE", "no_NO", "da_DK", "fi_FI", "cs_CZ", "sk_SK", "hu_HU", "ro_RO", "hr_HR", "sl_SI"),
    *("tr_TR", "et_EE", "lt_LT", "lv_LV", "id_ID", "en_PH", "el_GR"),
)

Choice = TypeVar("Choice")

_ENGLISH = (0, 0, 0, 1, 2, 3)
"""Lists of English names, by their place in `LOCALES` without repetitions."""
_INVENTED = 0.08
_VOCABULARY = Path(__file__).with_name("vocabulary.yaml")


@cache
def vocabulary() -> Mapping[str, Any]:
    """Return the words and forms of made-up values."""
    words: Mapping[str, Any] = yaml.safe_load(_VOCABULARY.read_text("utf-8"))
    return words


class ValuePools:
    """Source of made-up values; equal seeds give equal values.

    Args:
        seed: Seed of every choice.
        size: Values of a kind that are prepared for a locale.
    """

    def __init__(self, seed: int, size: int = 300):
        from faker import Faker

        self._random = random.Random(seed)
        self._size = size
        self._fakers = {locale: Faker(locale) for locale in dict.fromkeys(LOCALES)}
        for index, faker in enumerate(self._fakers.values()):
            faker.seed_instance(seed * 1000 + index)
        self._pools: dict[tuple[str, str], list[str]] = {}
        self.words: Mapping[str, Any] = vocabulary()

    def one(self, choices: Sequence[Choice]) -> Choice:
        """Choose one value."""
        return choices[self._random.randrange(len(choices))]

    def word(self, name: str) -> str:
        """Choose one word or form of the vocabulary."""
        return str(self.one(self.words[name]))

    def chance(self, probability: float) -> bool:
        """Return True with a probability."""
        return self._random.random() < probability

    def between(self, least: int, most: int) -> int:
        """Choose a number of a range, both ends included."""
        return self._random.randint(least, most)

    def sample(self, choices: Sequence[Choice], number: int) -> list[Choice]:
        """Choose several different values, or all if there are fewer."""
        return self._random.sample(choices, min(number, len(choices)))

    def weighted(self, choices: Sequence[Choice], weights: Sequence[float]) -> Choice:
        """Choose one value by weight."""
        return self._random.choices(choices, weights)[0]

    def digits(self, pattern: str) -> str:
        """Replace each `#` by a digit, `?` by a capital and `^` by a small letter."""
        signs = {
            "#": "0123456789",
            "?": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            "^": "abcdefghijklmnopqrstuvwxyz",
        }
        return "".join(self.one(signs[sign]) if sign in signs else sign for sign in pattern)

    def _locale(self) -> str:
        return self.one(LOCALES)

    def _pool(self, name: str, locale: str | None = None) -> str:
        locale = locale or self._locale()
        key = (name, locale)
        if key not in self._pools:
            make = getattr(self._fakers[locale], name, None) or getattr(self._fakers["en_US"], name)
            self._pools[key] = [" ".join(str(make()).split()) for _ in range(self._size)]
        return self.one(self._pools[key])

    @cached_property
    def names(self) -> tuple[list[list[str]], list[list[str]]]:
        """Given and family names of each nation, each list its whole vocabulary."""
        first: list[list[str]] = []
        last: list[list[str]] = []
        for locale, faker in self._fakers.items():
            if locale == "el_GR":
                continue
            person = next(p for p in faker.get_providers() if hasattr(p, "first_names"))
            given = [str(n) for n in person.first_names]
            family = [str(n) for n in getattr(person, "last_names", ())]
            first.append(sorted(set(given)))
            last.append(sorted(set(family)) or [self._pool("last_name", locale)])
        first += [list(names) for names in self.words["given_names"].values()]
        last += [list(names) for names in self.words["family_names"].values()]
        return first, last

    def places(self) -> Iterator[str]:
        """Yield names of towns and countries of all locales."""
        for locale in dict.fromkeys(LOCALES):
            for name in ("city", "country", "state", "administrative_unit"):
                if hasattr(self._fakers[locale], name):
                    self._pool(name, locale)
                    yield from self._pools[name, locale]

    def _nation(self) -> int:
        """Choose one of the lists of names; those of English more often than each other one."""
        return (
            self.one(_ENGLISH) if self.chance(0.3) else self._random.randrange(len(self.names[0]))
        )

    def _first(self) -> str:
        return self._given(self._nation())

    def _last(self) -> str:
        return self._family(self._nation())

    def _given(self, nation: int) -> str:
        return self._name_of(self.names[0][nation])

    def _family(self, nation: int) -> str:
        return self._name_of(self.names[1][nation])

    def _name_of(self, names: Sequence[str]) -> str:
        """Choose a name of a list, or join the halves of two to one that no list holds."""
        name = self.one(names)
        if not self.chance(_INVENTED):
            return name
        other = self.one(names)
        invented = name[: (len(name) + 1) // 2] + other[len(other) // 2 :].lower()
        return invented if invented.isalpha() and len(invented) > 3 else name

    def _name(self) -> str:
        locale = self._nation()
        first = self._given(locale) if self.chance(0.8) else self._first()
        last = self._family(locale) if self.chance(0.8) else self._last()
        form = self._random.random()
        if form < 0.72:
            return f"{first} {last}"
        if form < 0.80:
            return f"{first} {self.digits('?.')} {last}"
        if form < 0.84:
            return f"{first} {self.digits('?')} {last}"
        if form < 0.88:
            return f"{first} {self._first()} {last}"
        if form < 0.91:
            return f"{first} {self.one(('van', 'van der', 'de', 'von', 'de la', 'del'))} {last}"
        if form < 0.94:
            return f"{self.digits('?.')} {last}"
        if form < 0.97:
            return f"{first} {last}-{self._last()}"
        return f"{first} {last} {self.word('suffixes')}"

    def _prefix(self) -> str:
        return self.word("prefixes")

    def _age(self) -> str:
        return str(self._random.randrange(1, 99))

    def _sex(self) -> str:
        return self.one(("H", "M", "V", "Hombre", "Mujer", "Varón", "male", "female"))
