"""Loader of `environments/<env>.yaml`, which reports every problem in one message."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from stacks.errors import SettingsError
from stacks.settings.checks import cross_section_problems, neighbour_problems
from stacks.settings.environment import Environment
from validation.error_messages import explain


def read_environment(folder: Path, name: str) -> Environment:
    """Return the environment `name` of `folder`.

    Raises:
        SettingsError: With every problem of the file, and every conflict with other environments.
    """
    file = folder / f"{name}.yaml"
    if not file.is_file():
        available = sorted(path.stem for path in folder.glob("*.yaml"))
        raise SettingsError(
            file,
            [f"there is no such file; {folder} has {', '.join(available) or 'no environments'}"],
        )
    environment = _parse(file)
    if environment.name != name:
        raise SettingsError(
            file, [f"name: {environment.name!r} is not the file's name; write {name!r}"]
        )
    problems = [
        *cross_section_problems(environment),
        *neighbour_problems(environment, _neighbours(folder, file)),
    ]
    if problems:
        raise SettingsError(file, problems)
    return environment


def _parse(file: Path) -> Environment:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise SettingsError(file, [f"not valid YAML: {' '.join(str(error).split())}"]) from None
    if not isinstance(content, dict):
        raise SettingsError(
            file, [f"a mapping of settings is expected, not {type(content).__name__}"]
        )
    try:
        return Environment.model_validate(content)
    except ValidationError as error:
        raise SettingsError(
            file, [str(problem) for problem in explain(error, Environment)]
        ) from None


def _neighbours(folder: Path, file: Path) -> dict[str, Environment]:
    """Return the other environments that parse.

    A problem in another file is reported when that environment is read.
    """
    neighbours = {}
    for other in sorted(folder.glob("*.yaml")):
        if other != file:
            try:
                neighbours[other.name] = _parse(other)
            except SettingsError:
                continue
    return neighbours
