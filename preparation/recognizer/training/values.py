"""Made-up values of personal data in many locales, for the training of the recognizer."""

from __future__ import annotations

from collections.abc import Callable

from preparation.recognizer.training.address_values import AddressValues


class Values(AddressValues):
    """Values for the slots of the templates; equal seeds give equal values."""

    def value(self, slot: str) -> str:
        """Return a value for a slot of a template.

        Raises:
            KeyError: If there are no values for the slot.
        """
        method: Callable[[], str] | None = getattr(self, f"_{slot}", None)
        if method is None:
            raise KeyError(f"no values for the slot {{{slot}}}")
        return method()

    def _phone(self) -> str:
        if self.chance(0.5):
            return self._pool("phone_number")
        return self.digits(self.word("phones"))

    def _email(self) -> str:
        return self._pool("email")

    def _user(self) -> str:
        first, last = self._first().lower(), self._last().lower()
        name = self.one(
            (f"{first}{last}", f"{first}.{last}", f"{first[0]}{last}", f"{first}_{last}")
        )
        name = "".join(name.split()) + (self.digits("##") if self.chance(0.5) else "")
        return self.one(("", "", "@")) + name

    def _url(self) -> str:
        name = (
            (self._first() + self._last()).lower()
            if self.chance(0.4)
            else self._pool("domain_word", "en_US")
        )
        name = name.replace(" ", "").title() if self.chance(0.2) else name.replace(" ", "")
        return str(self.word("web_sites")).format(name, self.word("domains"))

    def _docurl(self) -> str:
        return self.word("documentation_urls")

    def _ip(self) -> str:
        return self._pool(self.one(("ipv4", "ipv4", "ipv4", "ipv6")), "en_US")

    def _card(self) -> str:
        number = self._pool("credit_card_number", "en_US")
        if self.chance(0.3):
            sign = self.one((" ", "-"))
            return sign.join(number[i : i + 4] for i in range(0, len(number), 4))
        return number

    def _iban(self) -> str:
        iban = self._pool("iban", self.one(("en_GB", "de_DE", "es_ES", "fr_FR", "it_IT", "nl_NL")))
        return (
            " ".join(iban[i : i + 4] for i in range(0, 34, 4)).strip() if self.chance(0.3) else iban
        )

    def _ssn(self) -> str:
        return self.digits(self.one(("###-##-####", "###-##-####", "### ## ####", "#########")))

    def _licence(self) -> str:
        return self.digits(self.word("licences"))

    def _passport(self) -> str:
        return self.digits(self.word("passports"))

    def _id(self) -> str:
        return self.digits(self.word("ids"))

    def _ref(self) -> str:
        return self.digits(self.word("references"))

    def _date(self) -> str:
        day, month = self._random.randrange(1, 29), self._random.randrange(1, 13)
        year = self._random.randrange(1930, 2026)
        if self.chance(0.3):
            form = self.one(("%d %B %Y", "%B %d, %Y", "%d. %B %Y", "%d de %B de %Y", "%b %d"))
            return str(self._fakers["en_US"].date(form))
        forms = (
            f"{day:02}/{month:02}/{year}|{month}/{day}/{year}|{year}-{month:02}-{day:02}"
            f"|{day}.{month}.{year}|{day:02}-{month:02}-{year % 100:02}|{day:02}.{month:02}.{year}"
            f"|{year}-{month:02}-{day:02} {day:02}:{month:02}:45"
        )
        return self.one(forms.split("|"))

    def _dob(self) -> str:
        return self._date()

    def _expiry(self) -> str:
        return self.digits("0#/2#")

    def _time(self) -> str:
        return self.digits("1#:3#")

    def _year(self) -> str:
        return str(self._random.randrange(1950, 2026))

    def _weekday(self) -> str:
        return self.word("weekdays")

    def _money(self) -> str:
        return self.digits(self.one(("$#,###", "$##.##", "# million euros", "##,## €", "USD ###")))

    def _version(self) -> str:
        return self.digits("#.#.#")

    def _nrp(self) -> str:
        return self.word("nationalities")

    def _job(self) -> str:
        job = self._pool("job", "en_US")
        return job.lower() if self.chance(0.5) else job

    def _product(self) -> str:
        return self.word("products")

    def _topic(self) -> str:
        return self.word("topics")

    def _org(self) -> str:
        form = self._random.random()
        if form < 0.4:
            return self._pool("company")
        if form < 0.55:
            return f"{self.word('organization_words')} {self.word('organization_ends')}"
        if form < 0.7:
            return f"{self._last()} {self.word('organization_ends')}"
        if form < 0.73:
            return f"{self._last()}, {self._last()} and {self._last()}"
        word = self._pool("domain_word", "en_US").replace("-", "").title()
        if form < 0.9:
            return word[:9] + self.one(("", "ly", "ify", "soft", "tech", "net", "io", "hub", "x"))
        words = (self.word("organization_words"), self.word("organization_words"))
        return " ".join([*words, self.word("organization_ends")])
