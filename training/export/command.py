"""Implementation of `temper export`: find the model of a run and write it in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.config.adapter_files import CONFIG
from training.config.input_paths import require_model
from training.console import say
from training.errors import JobError, Problem
from training.quiet import quiet


def export_model(
    run: Path,
    format_name: str = "safetensors",
    to: Path | None = None,
    base_model: str | None = None,
    **options: Any,
) -> None:
    """Write a run's model in another format, verify it, and print where it is.

    Args:
        run: A folder, or the name of a job or run below `runs/`.
        format_name: A key of `training.export.formats.FORMATS`.
        to: The file or folder to write; `export/` next to the model when omitted.
        base_model: Folder or Hub id of an adapter's base; None for the one that it records.
        options: Options of the format; None if not given.

    Raises:
        JobError: There is no such model or format, or the format does not have an option.
        ModelError: There is no such base.
    """
    quiet()
    model = find_model(run)
    # Imported here: wrong arguments are reported before torch is loaded.
    from training.export.formats import FORMATS

    if format_name not in FORMATS:
        fix = f"Choose from {', '.join(FORMATS)}"
        raise JobError("export", [Problem("FORMAT", "no such format", format_name, fix)])
    format = FORMATS[format_name]
    given = {name: value for name, value in options.items() if value is not None}
    others = [
        Problem(name.upper(), f"is no option of FORMAT={format_name}", str(value), "Leave it out")
        for name, value in given.items()
        if name not in format.options
    ]
    if base_model is not None and not (model / CONFIG).is_file():
        others.append(
            Problem("BASE_MODEL", f"is the base of an adapter, and {model} is none", base_model)
        )
    if others:
        raise JobError("export", others)
    if base_model is not None:
        require_model(base_model, "BASE_MODEL")
    output = format.output
    if "outtype" in given:
        # llama.cpp's naming convention, so that files of several types can be kept.
        output = f"{Path(output).stem}-{given['outtype'].upper()}{Path(output).suffix}"
    target = to or model.parent / "export" / output
    result = format.write(model, target, base_model=base_model, **given)
    say(f"verified: {result}")
    say(f"done: {target}")


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
