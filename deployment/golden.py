"""Golden prompts: answers of a deployment, compared with those recorded of the same version.

A row is `{"prompt": …}` or `{"messages": …}`, with `tokens` and `log_probs` of the recorded answer.
Each is asked again at temperature 0. The tokens must be the same, with log-probabilities within the
tolerance. Where another token comes first and the recorded one is as likely as it was, which of two
equals comes first depends on the machine, and the comparison ends there.
"""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment.errors import DeployModelError
from deployment.spec import GoldenPrompts
from deployment.targets.base import AnsweringTarget
from launch.errors import InvalidOptionError
from training.console import say
from training.errors import DataError
from validation.json_lines import split_lines

Ask = Callable[[Mapping[str, Any]], Mapping[str, Any]]
_TOKENS, _TOP = 32, 3
_SHOWN = 3
_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class GoldenAnswer:
    """Tokens of an answer and their log-probabilities.

    Attributes:
        tokens: The tokens.
        log_probs: Log-probability of each.
        likeliest: Log-probabilities of the most likely tokens at each place.
    """

    tokens: tuple[str, ...]
    log_probs: tuple[float, ...]
    likeliest: tuple[Mapping[str, float], ...] = ()


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


@dataclass(frozen=True)
class GoldenCheck:
    """Comparison of a deployment with golden prompts, before and after its version changes.

    Attributes:
        prompts: The prompts.
        settings: Tolerance and least agreement.
        target: Target that asks the deployment.
        name: Name of the deployment.
    """

    prompts: Sequence[GoldenPrompt]
    settings: GoldenPrompts
    target: AnsweringTarget
    name: str

    def before(self, model: str) -> None:
        """Ask the version that serves now, and say how many answers are those of the next one.

        Raises:
            DeployModelError: It does not answer, so that nothing can be compared.
        """
        wrong = self._differences()
        say(
            f"golden prompts before: {len(self.prompts) - len(wrong)} of {len(self.prompts)} of "
            f"{model or 'the version that serves'} are as recorded of the next version"
        )

    def after(self, model: str) -> None:
        """Ask the version that serves now.

        Raises:
            DeployModelError: Fewer answers agree than must.
        """
        wrong = self._differences()
        agreed = len(self.prompts) - len(wrong)
        say(f"golden prompts after: {agreed} of {len(self.prompts)} of {model} are as recorded")
        if agreed < self.settings.min_agreement * len(self.prompts):
            shown = "; ".join(wrong[:_SHOWN])
            raise DeployModelError(
                f"{self.name} does not answer as {model} did when {self.settings.file} was "
                f"recorded: {len(wrong)} of {len(self.prompts)} differ: {shown}"
            )

    def _differences(self) -> list[str]:
        found = []
        for prompt in self.prompts:
            answer = ask_prompt(prompt, lambda body: self.target.ask(self.name, body))
            difference = difference_of(prompt.answer, answer, self.settings.tolerance)
            if difference:
                found.append(f"line {prompt.line}: {difference}")
        return found


def difference_of(
    recorded: GoldenAnswer | None, answer: GoldenAnswer, tolerance: float
) -> str | None:
    """Return how an answer differs from the recorded one, None if it agrees.

    Args:
        recorded: The recorded answer; None if only some answer is expected.
        answer: The answer.
        tolerance: Largest difference of a log-probability.
    """
    if not answer.tokens:
        return "the answer is empty"
    if recorded is None:
        return None
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


def ask_prompt(prompt: GoldenPrompt, ask: Ask) -> GoldenAnswer:
    """Return the answer to a prompt at temperature 0.

    Raises:
        DeployModelError: The response has no tokens with log-probabilities.
    """
    count = len(prompt.answer.tokens) if prompt.answer else _TOKENS
    body = {**prompt.request, "temperature": 0, "max_tokens": max(1, count)}
    asked = {"logprobs": True, "top_logprobs": _TOP} if "messages" in body else {"logprobs": _TOP}
    response = ask({**body, **asked})
    try:
        log_probs = response["choices"][0]["logprobs"]
        if "messages" in body:
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
    except (KeyError, IndexError, TypeError, ValueError):
        raise DeployModelError(
            f"line {prompt.line}: the response has no tokens with log-probabilities: "
            f"{json.dumps(response)[:300]}"
        ) from None


def read_golden(file: Path) -> list[GoldenPrompt]:
    """Return the prompts of a file.

    Raises:
        DataError: It cannot be read, or a line is not a golden prompt; names all of them.
    """
    try:
        lines = split_lines(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    prompts, problems = [], []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                prompts.append(_prompt(json.loads(line), number))
            except (ValueError, TypeError, KeyError) as error:
                problems.append(f"  line {number}: {error}")
    if problems:
        raise DataError("\n".join([f"{file}: {len(problems)} lines cannot be used", *problems]))
    if not prompts:
        raise DataError(f"{file} has no prompts")
    return prompts


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
    answer = None
    if "tokens" in row:
        tokens, log_probs = row["tokens"], row.get("log_probs")
        if not isinstance(log_probs, list) or len(log_probs) != len(tokens):
            raise ValueError("needs as many log_probs as tokens")
        if not all(isinstance(p, int | float) and math.isfinite(p) for p in log_probs):
            raise ValueError("log_probs must be numbers")
        answer = GoldenAnswer(tuple(map(str, tokens)), tuple(map(float, log_probs)))
    return GoldenPrompt({key: row[key]}, answer, number)


def record_golden(prompts: Path, out: Path, url: str, model: str | None = None) -> int:
    """Record the answers of a server to prompts, such as those of `temper serve`.

    Args:
        prompts: JSON Lines with `prompt` or `messages`.
        out: File of the golden prompts.
        url: Address of the server, such as http://127.0.0.1:8000/v1.
        model: Name of the model in requests; the server's own if None.

    Raises:
        DataError: A line is not a prompt.
        DeployModelError: The server does not answer.
        InvalidOptionError: The address is none.
    """
    if not url.startswith(("http://", "https://")):
        raise InvalidOptionError(f"--url {url}: write for instance http://127.0.0.1:8000/v1")
    rows = []
    for prompt in read_golden(prompts):
        asked = GoldenPrompt(prompt.request, None, prompt.line)
        answer = ask_prompt(asked, lambda body: ask_server(url, body, model))
        row = {**prompt.request, "tokens": answer.tokens, "log_probs": answer.log_probs}
        rows.append(json.dumps(row, ensure_ascii=False))
    out.write_text("\n".join(rows) + "\n", encoding="utf-8")
    say(f"{len(rows)} golden prompts in {out}")
    return 0


def ask_server(url: str, body: Mapping[str, Any], model: str | None) -> Mapping[str, Any]:
    """Return the response of a server to a request of OpenAI's protocol.

    Args:
        url: Address of the server, such as http://127.0.0.1:8000/v1.
        body: Body with `prompt` or `messages`.
        model: Name of the model in the request; the server's own if None.

    Raises:
        DeployModelError: It refuses the request, or does not answer.
    """
    route = "/chat/completions" if "messages" in body else "/completions"
    content = {**body, **({"model": model} if model else {})}
    request = urllib.request.Request(
        url.rstrip("/") + route,
        data=json.dumps(content).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            answer: Mapping[str, Any] = json.loads(response.read())
    except urllib.error.HTTPError as error:
        raise DeployModelError(f"{url}{route}: {error.read().decode()[:500]}") from None
    except (OSError, ValueError) as error:
        raise DeployModelError(f"{url}{route} does not answer: {error}") from None
    return answer
