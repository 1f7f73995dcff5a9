"""Masking of personal data: placeholders leave the process, values come back in the answer."""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from client.chat import ChatCall
from client.errors import MaskingError

if TYPE_CHECKING:
    from preparation.rows import PreparedRow
    from preparation.steps.step import Finding, Rule

_PLACEHOLDER = re.compile(r"\[([A-Z_]+)_(\d+)\]")
_LONGEST_PLACEHOLDER = 40
_INSTALL = 'pip install "temper[client,mask]"'


class MaskedCall:
    """Call whose personal data is replaced by placeholders, and the values for its answer.

    Args:
        call: The call that may leave the process.
        values: Value of each placeholder.

    Attributes:
        call: The call that may leave the process.
        count: Number of placeholders.
    """

    def __init__(self, call: ChatCall, values: Mapping[str, str]):
        self.call, self._values, self.count = call, values, len(values)

    def unmask(self, text: str) -> str:
        """Return a text with its values in place of the placeholders."""
        if not self._values:
            return text
        return _PLACEHOLDER.sub(lambda match: self._values.get(match[0], match[0]), text)

    def unmask_json(self, value: Any) -> Any:
        """Return a JSON value whose texts have their values in place of the placeholders."""
        if isinstance(value, str):
            return self.unmask(value)
        if isinstance(value, Mapping):
            return {key: self.unmask_json(inner) for key, inner in value.items()}
        return [self.unmask_json(inner) for inner in value] if isinstance(value, list) else value


class StreamUnmasker:
    """Replacement of placeholders in a text that comes in parts, which may cut them.

    Args:
        masked: The call that the text answers.
    """

    def __init__(self, masked: MaskedCall):
        self._masked = masked
        self._held = ""

    def feed(self, part: str) -> str:
        """Return what is certain after a part: all but what may begin a placeholder."""
        text = self._held + part
        start = text.rfind("[")
        open_ended = start >= 0 and "]" not in text[start:]
        if self._masked.count and open_ended and len(text) - start < _LONGEST_PLACEHOLDER:
            self._held = text[start:]
            text = text[:start]
        else:
            self._held = ""
        return self._masked.unmask(text)

    def finish(self) -> str:
        """Return what was held back at the end of the text."""
        held, self._held = self._held, ""
        return held


class PersonalDataMask:
    """Masking of the personal data in conversations, found as in the preparation of data.

    A value has one placeholder in a conversation, such as `[PERSON_1]`. All messages are masked,
    the arguments of tool calls and names of participants included; `tools` and other further
    fields of a call are the application's own and are not. What the recognizer does not find is
    sent: docs/prepare.md has its recall by kind.

    Args:
        kinds: Kinds that are masked; those that identify a person by themselves if left out.
        never: Values that are not personal data here, such as the name of one's own firm.

    Raises:
        MaskingError: A kind does not exist, or the packages of the recognizer are not installed.
    """

    def __init__(self, kinds: Collection[str] | None = None, never: Collection[str] = ()):
        try:
            from pydantic import ValidationError

            from preparation.steps.personal_data.section import PersonalDataStep
        except ImportError as error:
            raise MaskingError(f"{error.name} is not installed: {_INSTALL}") from None
        settings: dict[str, Any] = {"step": "personal_data", "never": tuple(never)}
        if kinds is not None:
            settings["kinds"] = tuple(kinds)
        try:
            section = PersonalDataStep.model_validate(settings)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(step) for step in first["loc"])
            raise MaskingError(f"{where}: {first['msg']} (got {first['input']!r})") from None
        try:
            self._rule: Rule = section.build()
        except ImportError as error:
            raise MaskingError(f"{error.name} is not installed: {_INSTALL}") from None
        # The recognizer keeps the vectors of words that it has seen, and is not thread-safe.
        self._lock = threading.Lock()

    def mask(self, call: ChatCall) -> MaskedCall:
        """Return a call with its personal data masked.

        Raises:
            MaskingError: A message holds something that is not text, or the recognizer failed.
        """
        row = _row(call)
        try:
            with self._lock:
                findings = self._rule.examine(row).findings
            texts, values = _replaced(row, findings)
            messages = row.with_texts(texts).columns["messages"]
        except Exception as error:
            # The message of an unexpected error may quote a text, so only its class is named.
            raise MaskingError(
                f"personal data could not be masked ({type(error).__name__}); nothing was sent"
            ) from None
        return MaskedCall(replace(call, messages=messages), values)


def _row(call: ChatCall) -> PreparedRow:
    from preparation.rows import PreparedRow

    messages = []
    for index, message in enumerate(call.messages):
        if not isinstance(message.get("content") or "", str):
            raise MaskingError(
                f"messages[{index}].content is a list of parts, of which only texts could be "
                f"masked: send it as one text, or call a client without mask"
            )
        messages.append({**message})
    return PreparedRow("call", "client", "messages", {"messages": messages})


def _replaced(row: PreparedRow, findings: Sequence[Finding]) -> tuple[list[str], dict[str, str]]:
    """Return the texts of a row with placeholders, and the value of each placeholder."""
    from preparation.recognizer.recognizer import KindSpan
    from preparation.steps.personal_data.replacement import Placeholders

    texts = [part.text for part in row.parts()]
    taken: dict[str, int] = {}
    for text in texts:
        for kind, number in _PLACEHOLDER.findall(text):
            taken[kind] = max(taken.get(kind, 0), int(number))
    values: dict[str, str] = {}

    class FreePlaceholders(Placeholders):
        """Placeholders that do not occur in the texts, with their values."""

        def replacement(self, kind: Any, value: str) -> str:
            number = self.number(kind, value) + taken.get(kind.upper(), 0)
            placeholder = f"[{kind.upper()}_{number}]"
            # The longest of several mentions has all words of a name.
            if len(value) > len(values.get(placeholder, "")):
                values[placeholder] = value
            return placeholder

    placeholders = FreePlaceholders()
    masked = []
    for index, text in enumerate(texts):
        spans = [KindSpan(f.start, f.end, f.kind) for f in findings if f.part == index]  # type: ignore[arg-type]  # kinds of the rule
        masked.append(placeholders.replace(text, spans))
    return masked, values
