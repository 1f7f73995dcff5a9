"""Made-up streets, towns and addresses in the ways that people write them."""

from __future__ import annotations

from preparation.recognizer.training.value_pools import ValuePools


class AddressValues(ValuePools):
    """Made-up places."""

    def _city(self) -> str:
        city = self._pool("city")
        return city.upper() if self.chance(0.12) else city

    def _country(self) -> str:
        locale = self.one(("en_US",) * 6 + ("es_ES", "de_DE", "fr_FR", "it_IT"))
        return self._pool("country", locale)

    def _zip(self) -> str:
        if self.chance(0.5):
            return self.digits(
                self.one(("#####", "#####", "#####", "####", "#####-####", "### ##"))
            )
        return self._pool("postcode")

    def _building(self) -> str:
        return self.digits(self.one(("#", "##", "##", "###", "####", "#####", "##a", "##-##")))

    def _street(self) -> str:
        form = self._random.random()
        number = self._random.randrange(1, 250)
        if form < 0.45:
            street = self._pool("street_name")
        elif form < 0.6:
            street = f"{self._last()} {self.word('street_ends')}"
        elif form < 0.68:
            street = f"{self.word('street_starts')} {self._last()}"
        elif form < 0.78:
            street = f"{self._last()}{self.word('street_compounds')}"
        elif form < 0.84:
            street = f"{self._last()} {self.word('street_last_words')}"
        elif form < 0.88:
            ordinal = self.one(("1st", "2nd", "3rd", "5th", "12th", "42nd", "First", "Third"))
            street = f"{ordinal} {self.one(('Street', 'Avenue', 'St', 'Ave'))}"
        else:
            return self._pool("street_address")
        if self.chance(0.35):
            return f"{street} {number}" + (self.digits("^") if self.chance(0.1) else "")
        return f"{number} {street}" if self.chance(0.25) else street

    def _secondary(self) -> str:
        return f"{self.word('secondary')} {self.digits(self.one(('#', '##', '###', '?', '#?')))}"

    def _state(self) -> str:
        return self.digits("??")

    def _address(self) -> str:
        form = self._random.random()
        if form < 0.05:
            return (
                self.digits(
                    self.one(("PSC ####, Box ####", "Unit #### Box ####", "CMR ###, Box ####"))
                )
                + self.one(("\n", ", ", " "))
                + self.one(("APO", "FPO", "DPO"))
                + self.one((" AE ", " AP ", " AA "))
                + self.digits("#####")
            )
        if form < 0.07:
            ship = self._last()
            return f"USS {ship}\nFPO {self.one(('AE', 'AP', 'AA'))} {self.digits('#####')}"
        if form < 0.12:
            corner = f"{self._street()} and {self._street()}"
            return f"{self.one(('the corner of ', 'corner of ', '', '', ''))}{corner}"
        if form < 0.2:
            return f"{self.one(('P.O. Box', 'PO Box', 'Postfach', 'Apdo.', 'Box'))} " + (
                f"{self.digits('####')}, {self._city()} {self._zip()}"
            )
        if form < 0.3:
            return ", ".join(self._fakers[self._locale()].address().split("\n"))
        if form < 0.36:
            return f"{self._street()}"
        return self._composed()

    def _composed(self) -> str:
        """Join the parts of an address as forms, letters and data bases of all kinds do."""
        separator = self.one((", ", ", ", " ", "\n", "\n", "\n ", "\n    ", " - ", " | "))
        state = self.digits("??") if self.chance(0.8) else self._pool("state", "en_US")
        street = self._street()
        if self.chance(0.7):
            street = f"{self._building()} {street}"
        parts = [street]
        if self.chance(0.45):
            parts.append(self._secondary())
        city = self._city()
        form = self._random.random()
        if form < 0.3:
            parts.append(f"{city} {self._zip()}")
        elif form < 0.45:
            parts.append(f"{self._zip()} {city}")
        elif form < 0.6:
            parts += [f"{city}{self.one((', ', ' ', separator + ', '))}{state} {self._zip()}"]
        elif form < 0.8:
            parts += [city]
            if self.chance(0.3):
                parts.append(f", {state}" if "\n" in separator else state)
            last = self._country() if self.chance(0.7) else ""
            last = f"{last} {self._zip()}".strip() if self.chance(0.6) else last
            parts += [last] if last else []
        elif form < 0.9:
            parts += [f"{city} {state}"]
        else:
            parts += [city, self._country()]
        if len(parts) > 1 and self.chance(0.25):  # street and flat on one line
            parts[:2] = [f"{parts[0]}{self.one((' ', ', '))}{parts[1]}"]
        return separator.join(parts)
