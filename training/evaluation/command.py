r"""Implementation of `temper answer`: answer requests that each name an adapter, on one base model.

    temper answer runs/base/latest/model requests.jsonl \
        support=runs/support/latest/model legal=runs/legal/latest/model

A line of the requests is `{"prompt": …, "adapter": "legal"}`, without `adapter` for the base model.
If a line has a `completion`, the loss on it is printed too.
"""

from __future__ import annotations

import json
from pathlib import Path

from training.config.adapter_files import base_problem
from training.config.input_paths import require_model
from training.console import say
from training.errors import JobError, ModelError, Problem
from training.quiet import quiet


def answer_requests(
    model: str,
    requests_file: Path,
    adapters: list[str],
    out: Path | None = None,
    max_new_tokens: int = 64,
) -> None:
    """Answer each request with the adapter it names.

    Args:
        model: The base model: a folder or a Hub id.
        requests_file: JSON Lines with `prompt`, `adapter` and, optionally, `completion`.
        adapters: One NAME=FOLDER for each adapter.
        out: The file of answers; they are printed when it is omitted.
        max_new_tokens: The length of the longest answer.

    Raises:
        TemperError: An argument, a request, the model or an adapter cannot be used.
    """
    quiet()
    folders = _parse_adapters(adapters)
    require_model(model, "MODEL")
    _check_fit(model, folders)
    # Imported here: wrong arguments are reported before torch is loaded.
    from training.evaluation.multi_adapter import AdapterServer, read_requests

    requests = read_requests(requests_file)
    server = AdapterServer(model, folders)
    answers = server.answer(requests, max_new_tokens)
    rows = [
        json.dumps({"adapter": r.adapter, "prompt": r.prompt, "answer": a}, ensure_ascii=False)
        for r, a in zip(requests, answers, strict=True)
    ]
    if out is None:
        say("\n".join(rows))
    else:
        out.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        say(f"done: {len(rows)} answers in {out}")
    if any(request.completion for request in requests):
        say(f"loss of the completions: {server.loss(requests):.4f}")


def _check_fit(model: str, folders: dict[str, str]) -> None:
    """Raise if the layers of a base in a folder are not those of an adapter, with all of them.

    Raises:
        ModelError: An adapter was trained on a model of another shape.
    """
    if not Path(model).is_dir():
        return
    problems = [base_problem(Path(folder), Path(model)) for folder in folders.values()]
    if found := [problem for problem in problems if problem is not None]:
        raise ModelError("\n".join(found))


def _parse_adapters(given: list[str]) -> dict[str, str]:
    """Return folders by name.

    Raises:
        JobError: One is not written NAME=FOLDER, or a name comes twice.
    """
    folders: dict[str, str] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder) or name in folders or "." in name:
            message = "a name comes twice" if name in folders else "write NAME=FOLDER for each"
            raise JobError("answer", [Problem("ADAPTERS", message, text)])
        folders[name] = folder
    return folders
