"""Answer requests that each name their adapter, from one base in memory.

    make answer MODEL=runs/base/latest/model REQUESTS=requests.jsonl \
        ADAPTERS="support=runs/support/latest/model legal=runs/legal/latest/model"

A line of REQUESTS is `{"prompt": …, "adapter": "legal"}`, without `adapter` for the base; where it
has a `completion`, the loss of what was expected is said too. Exit codes are those of
`python -m training`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from training.console import say
from training.errors import JobError, Problem, TemperError
from training.quiet import quiet


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    quiet()
    try:
        adapters = _named(options.adapters)
        # Imported here: what is wrong with the arguments is said at once.
        from training.evaluation.multi_adapter import AdapterServer, read_requests

        requests = read_requests(options.requests)
        desk = AdapterServer(options.model, adapters)
        answers = desk.answer(requests, options.max_new_tokens)
        rows = [
            json.dumps({"adapter": r.adapter, "prompt": r.prompt, "answer": a}, ensure_ascii=False)
            for r, a in zip(requests, answers, strict=True)
        ]
        if options.out is None:
            say("\n".join(rows))
        else:
            options.out.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
            say(f"done: {len(rows)} answers in {options.out}")
        if any(request.completion for request in requests):
            say(f"loss of what was expected: {desk.loss(requests):.4f}")
    except TemperError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _named(given: list[str]) -> dict[str, str]:
    """Return folders by name.

    Raises:
        JobError: One is not written NAME=FOLDER, or a name comes twice.
    """
    found: dict[str, str] = {}
    for one in given:
        name, equals, folder = one.partition("=")
        if not (name and equals and folder) or name in found or "." in name:
            message = "a name comes twice" if name in found else "write NAME=FOLDER for each"
            raise JobError("answer", [Problem("ADAPTERS", message, one)])
        found[name] = folder
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluation",
        description="Answer requests by the adapter they name.",
    )
    parser.add_argument("model", help="the base: a folder or a Hub id")
    parser.add_argument("requests", type=Path, help="JSONL: prompt, adapter, perhaps completion")
    parser.add_argument("adapters", nargs="+", help="NAME=FOLDER")
    parser.add_argument("--out", type=Path, help="where answers go; the terminal when left out")
    parser.add_argument("--max-new-tokens", type=int, default=64, help="longest answer")
    return parser


if __name__ == "__main__":
    sys.exit(main())
