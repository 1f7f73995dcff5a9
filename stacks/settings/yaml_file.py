"""Reading of an environment file as YAML, with a message for every way in which it can be none."""

from pathlib import Path
from typing import Any

import yaml

from stacks.errors import SettingsError
from validation.strict_yaml import load_yaml


def read_mapping(file: Path) -> dict[Any, Any]:
    """Return the content of an environment file.

    Raises:
        SettingsError: The file cannot be read, or is no YAML mapping with unique keys.
    """
    try:
        content = load_yaml(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(file, [f"cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 (byte {error.start}); save the file in the encoding UTF-8"
        raise SettingsError(file, [problem]) from None
    except yaml.YAMLError as error:
        problem = f"not valid YAML: {_one_line(error, _lines(file))}"
        raise SettingsError(file, [problem]) from None
    if content is None:
        raise SettingsError(file, ["the file is empty; environments/dev.yaml is an example"])
    if not isinstance(content, dict):
        problem = f"a mapping of settings is expected, not {type(content).__name__}"
        raise SettingsError(file, [problem])
    return content


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8-sig").splitlines()


def _one_line(error: yaml.YAMLError, lines: list[str]) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or not problem:
        return " ".join(str(error).split())
    if problem.startswith("but "):
        problem = f"{getattr(error, 'context', '')}, {problem}"
    place = f"{problem} (line {mark.line + 1}, column {mark.column + 1})"
    line = lines[mark.line] if mark.line < len(lines) else ""
    indentation = line[: len(line) - len(line.lstrip())]
    return f"{place}; indent with spaces, not tabs" if "\t" in indentation else place
