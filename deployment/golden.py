"""Golden prompts of a deployment: checked before and after its version changes, and recorded."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment.errors import DeployModelError
from deployment.golden_answers import (
    Ask,
    GoldenAnswer,
    GoldenPrompt,
    NoAnswerError,
    ask_answer,
    difference_of,
    parse_golden,
    row_of,
)
from deployment.spec import GoldenPrompts
from deployment.targets.base import AnsweringTarget
from launch.errors import InvalidOptionError
from training.console import say
from training.errors import DataError

GOLDEN_FILE = "watch/golden.jsonl"
"""Golden prompts below the folder of a deployment in the bucket of runs."""
_SHOWN = 3
_TIMEOUT_S = 600.0


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


def ask_prompt(prompt: GoldenPrompt, ask: Ask) -> GoldenAnswer:
    """Return the answer to a prompt at temperature 0.

    Raises:
        DeployModelError: The response has no answer.
    """
    try:
        return ask_answer(prompt, ask)
    except NoAnswerError as error:
        raise DeployModelError(str(error)) from None


def read_golden(file: Path) -> list[GoldenPrompt]:
    """Return the prompts of a file.

    Raises:
        DataError: It cannot be read, or a line is not a golden prompt; names all of them.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    prompts, problems = parse_golden(text)
    if problems:
        shown = [f"  {problem}" for problem in problems]
        raise DataError("\n".join([f"{file}: lines that cannot be used: {len(problems)}", *shown]))
    if not prompts:
        raise DataError(f"{file} has no prompts")
    return prompts


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
        rows.append(json.dumps(row_of(prompt, answer), ensure_ascii=False))
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
