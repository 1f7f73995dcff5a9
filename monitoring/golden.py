"""Golden prompts of a deployment or a server, compared with what was recorded."""

from __future__ import annotations

from pathlib import Path

from deployment.golden import ask_prompt, ask_server, read_golden
from deployment.golden_answers import Ask, difference_of
from deployment.spec import GoldenPrompts
from monitoring.report.document import GoldenReport

_SHOWN = 5


def compare_golden(file: Path, ask: Ask) -> GoldenReport:
    """Return how many answers are as recorded.

    Args:
        file: The golden prompts.
        ask: Sends a request and returns the response.

    Raises:
        DataError: The file cannot be used.
        DeployModelError: The deployment does not answer.
    """
    settings = GoldenPrompts(file=file)
    prompts = read_golden(file)
    differences = []
    for prompt in prompts:
        difference = difference_of(prompt.answer, ask_prompt(prompt, ask), settings.tolerance)
        if difference:
            differences.append(f"line {prompt.line}: {difference}")
    agreed = len(prompts) - len(differences)
    return GoldenReport(
        agreed,
        len(prompts),
        tuple(differences[:_SHOWN]),
        agreed >= settings.min_agreement * len(prompts),
    )


def server_ask(url: str, model: str | None = None) -> Ask:
    """Return what asks a server by OpenAI's protocol.

    Args:
        url: Its address, such as http://127.0.0.1:8000/v1.
        model: Name of the model in requests; the server's own if None.
    """
    return lambda body: ask_server(url, body, model)
