"""Loader of `environments/<env>.yaml`, which reports every problem in one message."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from stacks.errors import SettingsError
from stacks.settings.checks import cross_section_problems, neighbour_problems
from stacks.settings.environment import Environment
from stacks.settings.partial import unrelated, valid_part
from stacks.settings.yaml_file import read_mapping
from validation.error_messages import explain


def read_environment(folder: Path, name: str) -> Environment:
    """Return the environment `name` of `folder`.

    Raises:
        SettingsError: With every problem of the file, and every conflict with other environments.
    """
    file = folder / f"{name}.yaml"
    if not file.is_file():
        available = sorted(path.stem for path in folder.glob("*.yaml") if path.is_file())
        raise SettingsError(
            file,
            [f"there is no such file; {folder} has {', '.join(available) or 'no environments'}"],
        )
    content = read_mapping(file)
    problems: list[str] = []
    environment: Environment | None
    try:
        environment = Environment.model_validate(content)
    except ValidationError as error:
        found = explain(error, Environment)
        problems = [str(problem) for problem in found]
        environment = valid_part(content, error)
        if environment:
            rest = _rule_problems(environment, folder, file)
            problems += unrelated(rest, [problem.path for problem in found])
    else:
        problems = list(_rule_problems(environment, folder, file))
    if problems or environment is None:
        raise SettingsError(file, problems)
    return environment


def _rule_problems(environment: Environment, folder: Path, file: Path) -> Iterator[str]:
    if environment.name != file.stem:
        yield f"name: {environment.name!r} is not the file's name; write {file.stem!r}"
    yield from cross_section_problems(environment)
    yield from neighbour_problems(environment, _neighbours(folder, file))


def _neighbours(folder: Path, file: Path) -> dict[str, Environment]:
    """Return the other environments that parse.

    A problem in another file is reported when that environment is read.
    """
    neighbours = {}
    for other in sorted(folder.glob("*.yaml")):
        if other != file:
            try:
                neighbours[other.name] = Environment.model_validate(read_mapping(other))
            except (SettingsError, ValidationError):
                continue
    return neighbours
