"""Golden prompts and their answers: what is asked, and how two answers are compared.

`temper watch`, deployments and the function that replays prompts on a schedule share this module,
which needs Python's standard library alone.

A row is `{"prompt": …}` or `{"messages": …}`, with `tokens` and `log_probs` of the recorded answer,
or its `text` if the engine gives no log-probabilities. Each is asked again at temperature 0. The
tokens must be the same, with log-probabilities within the tolerance. Where another token comes
first and the recorded one is as likely as it was, which of two equals comes first depends on the
machine, and the comparison ends there. Texts must be the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Ask = Callable[[Mapping[str, Any]], Mapping[str, Any]]
_TOKENS, _TOP = 32, 3
_SHOWN = 20


class NoAnswerError(ValueError):
    """A response that holds no answer."""


@dataclass(frozen=True)
class GoldenAnswer:
    """Answer: its tokens with their log-probabilities, or its text.

    Attributes:
        tokens: The tokens; empty if the engine gives no log-probabilities.
        log_probs: Log-probability of each.
        likeliest: Log-probabilities of the most likely tokens at each place.
        text: The text; empty if it was not recorded.
    """

    tokens: tuple[str, ...] = ()
    log_probs: tuple[float, ...] = ()
    likeliest: tuple[Mapping[str, float], ...] = ()
    text: str = ""

    @property
    def words(self) -> str:
        """The text, or that of the tokens."""
        return self.text or "".join(self.tokens)


@dataclass(frozen=True)
class GoldenPrompt:
    """Prompt with the answer that was recorded.

    Attributes:
        request: `prompt` or `messages`.
        answer: The recorded answer; None if none was.
        line: Number of its line in the file.
    """

    request: Mapping[str, Any]
    answer: GoldenAnswer | None
    line: int


def parse_golden(text: str) -> tuple[list[GoldenPrompt], list[str]]:
    """Return the prompts in the text of a file, and what is wrong with other lines."""
    prompts, problems = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                prompts.append(_prompt(json.loads(line), number))
            except (ValueError, TypeError, KeyError) as error:
                problems.append(f"line {number}: {error}")
    return prompts, problems


def _prompt(row: Any, number: int) -> GoldenPrompt:
    """Return the prompt of a row.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(row, dict) or ("prompt" in row) == ("messages" in row):
        raise ValueError("needs either prompt or messages")
    key = "prompt" if "prompt" in row else "messages"
    if not isinstance(row[key], str if key == "prompt" else list):
        raise ValueError(f"{key} must be {'a text' if key == 'prompt' else 'a list of messages'}")
    if "tokens" not in row:
        text = row.get("text")
        if text is not None and not (isinstance(text, str) and text):
            raise ValueError("text must be the recorded answer")
        return GoldenPrompt({key: row[key]}, GoldenAnswer(text=text) if text else None, number)
    tokens, log_probs = row["tokens"], row.get("log_probs")
    if not isinstance(log_probs, list) or len(log_probs) != len(tokens):
        raise ValueError("needs as many log_probs as tokens")
    if not all(isinstance(p, int | float) and math.isfinite(p) for p in log_probs):
        raise ValueError("log_probs must be numbers")
    answer = GoldenAnswer(tuple(map(str, tokens)), tuple(map(float, log_probs)))
    return GoldenPrompt({key: row[key]}, answer, number)


def row_of(prompt: GoldenPrompt, answer: GoldenAnswer) -> dict[str, Any]:
    """Return the row of a prompt with its answer, as a file holds it."""
    if not answer.tokens:
        return {**prompt.request, "text": answer.text}
    return {**prompt.request, "tokens": answer.tokens, "log_probs": answer.log_probs}


def ask_answer(prompt: GoldenPrompt, ask: Ask) -> GoldenAnswer:
    """Return the answer to a prompt at temperature 0.

    Args:
        prompt: The prompt.
        ask: Sends a body of OpenAI's protocol and returns the response.

    Raises:
        NoAnswerError: The response has no answer.
    """
    recorded = prompt.answer
    count = len(recorded.tokens) if recorded is not None and recorded.tokens else _TOKENS
    body = {**prompt.request, "temperature": 0, "max_tokens": max(1, count)}
    asked = {"logprobs": True, "top_logprobs": _TOP} if "messages" in body else {"logprobs": _TOP}
    response = ask({**body, **asked})
    try:
        return _answer(response["choices"][0], is_chat="messages" in body)
    except (KeyError, IndexError, TypeError, ValueError):
        raise NoAnswerError(
            f"line {prompt.line}: the response has no answer: {json.dumps(response)[:300]}"
        ) from None


def _answer(choice: Mapping[str, Any], *, is_chat: bool) -> GoldenAnswer:
    log_probs = choice.get("logprobs")
    if not log_probs:
        text = choice["message"]["content"] if is_chat else choice["text"]
        return GoldenAnswer(text=str(text or ""))
    if is_chat:
        content = log_probs["content"]
        return GoldenAnswer(
            tuple(one["token"] for one in content),
            tuple(float(one["logprob"]) for one in content),
            tuple(
                {top["token"]: float(top["logprob"]) for top in one.get("top_logprobs") or ()}
                for one in content
            ),
        )
    return GoldenAnswer(
        tuple(log_probs["tokens"]),
        tuple(map(float, log_probs["token_logprobs"])),
        tuple(log_probs.get("top_logprobs") or ()),
    )


def difference_of(
    recorded: GoldenAnswer | None, answer: GoldenAnswer, tolerance: float
) -> str | None:
    """Return how an answer differs from the recorded one, None if it agrees.

    Args:
        recorded: The recorded answer; None if only some answer is expected.
        answer: The answer.
        tolerance: Largest difference of a log-probability.
    """
    if not answer.words:
        return "the answer is empty"
    if recorded is None:
        return None
    if not (recorded.tokens and answer.tokens):
        return _text_difference(recorded.words, answer.words)
    pairs = zip(recorded.tokens, recorded.log_probs, answer.tokens, answer.log_probs, strict=False)
    for place, (token, log_prob, other, other_log_prob) in enumerate(pairs, start=1):
        apart = abs(log_prob - other_log_prob)
        if token != other:
            likely = answer.likeliest[place - 1] if place <= len(answer.likeliest) else {}
            if abs(likely.get(token, math.inf) - log_prob) <= tolerance:
                return None
            return f"token {place} is {other!r}, not {token!r}"
        if not apart <= tolerance:
            return (
                f"token {place} ({token!r}) has the log-probability {other_log_prob:.3f}, not "
                f"{log_prob:.3f}"
            )
    if len(recorded.tokens) != len(answer.tokens):
        return f"it has {len(answer.tokens)} tokens, not {len(recorded.tokens)}"
    return None


def _text_difference(recorded: str, answer: str) -> str | None:
    if recorded == answer:
        return None
    pairs = zip(recorded, answer, strict=False)
    shorter = min(len(recorded), len(answer))
    place = next((at for at, (one, other) in enumerate(pairs) if one != other), shorter)
    now, before = (text[place : place + _SHOWN] for text in (answer, recorded))
    return f"from character {place + 1} on, the text is {now!r}, not {before!r}"


def golden_metrics(agreed: int, of: int, *, passed: bool) -> dict[str, tuple[float, str]]:
    """Return the metrics of a comparison: value and unit by name.

    Args:
        agreed: Answers that are as recorded.
        of: Answers.
        passed: Whether as many agree as must.
    """
    return {
        "GoldenAgreement": (agreed / of, "None"),
        "GoldenAlarm": (int(not passed), "Count"),
    }
