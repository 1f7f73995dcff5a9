"""Command `temper chat`."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from training.errors import TemperError


class ChatError(TemperError):
    """A chat that cannot be started as requested."""

    exit_code = 2


@dataclass(frozen=True)
class ChatOptions:
    """Options of `temper chat`.

    Attributes:
        model: Run, folder or Hub id.
        against: Another model that answers the same questions; None for none.
        system: System message; empty for none.
        temperature: Sampling temperature.
        top_p: Share of the probability from which tokens are drawn.
        max_tokens: Longest answer; None for what the context leaves.
        seed: Seed of the answers.
        save: File of saved feedback.
        names: Names of the two models, if they differ from what `model` and `against` say.
    """

    model: str
    against: str | None = None
    system: str = ""
    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int | None = None
    seed: int = 0
    save: Path = Path("feedback.jsonl")
    names: tuple[str | None, str | None] = (None, None)


def run_chat(options: ChatOptions) -> int:
    """Chat until the input ends.

    Raises:
        ChatError: The options cannot be used.
        ModelError: A model cannot be loaded, or has no chat template.
    """
    _check(options)
    from serving.chat.chat_model import ChatModel, ChatSettings
    from serving.chat.check import check_chat_models
    from serving.chat.terminal import ChatTerminal
    from serving.load import load_served_model
    from training.quiet import quiet

    quiet()
    sources = [options.model] if options.against is None else [options.model, options.against]
    check_chat_models(sources)
    models = [
        ChatModel(load_served_model(name or source, source, {}))
        for source, name in zip(sources, options.names, strict=False)
    ]
    settings = ChatSettings(options.temperature, options.top_p, options.max_tokens, options.seed)
    terminal = ChatTerminal(models, settings, options.system, options.save, _write)
    interactive = sys.stdin.isatty()
    if interactive:
        with suppress(ImportError):
            import readline  # noqa: F401  (input() then has a history and can be edited)
        _write(f"{' against '.join(model.name for model in models)}. /help lists the commands.\n")
    try:
        while terminal.line(input("> " if interactive else "")):
            pass
    except EOFError:
        pass
    finally:
        for model in models:
            model.close()
    return 0


def _check(options: ChatOptions) -> None:
    problems = []
    if not 0 <= options.temperature <= 2:
        problems.append(f"--temperature {options.temperature:g}: from 0 to 2")
    if not 0 < options.top_p <= 1:
        problems.append(f"--top-p {options.top_p:g}: more than 0, at most 1")
    if options.max_tokens is not None and options.max_tokens < 1:
        problems.append(f"--max-tokens {options.max_tokens}: at least 1")
    if options.seed < 0:
        problems.append(f"--seed {options.seed}: from 0")
    if problems:
        raise ChatError("\n".join(problems))


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
