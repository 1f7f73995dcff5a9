"""Have a run's model in another form: `make export RUN=runs/NAME/latest FORMAT=safetensors`.

Exit codes are those of `python -m training`.
"""

from __future__ import annotations

import argparse
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
        # Imported here: what is wrong with the arguments is said at once.
        model = find_model(options.run)
        from training.export.formats import FORMATS

        if options.format not in FORMATS:
            raise JobError(
                "export",
                [
                    Problem(
                        "FORMAT",
                        "no such format",
                        options.format,
                        f"Choose from {', '.join(FORMATS)}",
                    )
                ],
            )
        name, write = FORMATS[options.format]
        target = options.to or model.parent / "export" / name
        said = write(model, target)
    except TemperError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    say(f"proved: {said}")
    say(f"done: {target}")
    return 0


def find_model(run: Path) -> Path:
    """Return the model folder of a run, a pipeline's last stage, or a folder that is one.

    Args:
        run: A folder, or the name of a job or run below `runs/`.

    Raises:
        JobError: There is none.
    """
    by_name = Path("runs") / run
    for place in (run, run / "latest", by_name, by_name / "latest"):
        stages = sorted((place / "stages").glob("*/model"))
        for folder in (place / "model", *stages[-1:], place):
            if any(folder.glob("*.safetensors")):
                return folder
    found = ", ".join(sorted(p.name for p in run.iterdir())[:8]) if run.is_dir() else "nothing"
    raise JobError(
        "export",
        [
            Problem(
                "RUN",
                "has no trained model",
                str(run),
                f"Name a job, or a run folder such as runs/NAME/latest; there is: {found}",
            )
        ],
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.export", description="Export a model."
    )
    parser.add_argument("run", type=Path, help="a job's name, a run folder, or a model's folder")
    parser.add_argument(
        "--format", default="safetensors", help="safetensors, adapter, archive, gguf, …"
    )
    parser.add_argument("--to", type=Path, help="where it goes; export/ in the run when left out")
    return parser


if __name__ == "__main__":
    sys.exit(main())
