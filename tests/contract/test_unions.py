"""Tests that each piece a job can name exists in a file of its own, independent of its siblings."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any, get_args

import grimp
import pytest
import yaml

from search.job_file import load_search_job
from tests.run_commands import ROOT
from training.config import load_job
from training.config.adapter_base import AdapterSection
from training.config.composition import AnyCombiner
from training.config.job import Adapter
from training.config.judges import AnyJudge
from training.config.method_base import MethodSection
from training.config.methods import Method
from training.config.rewards import Reward


def classes(union: Any) -> list[type[Any]]:
    """Return the classes of a discriminated union."""
    inner = get_args(union)[0]
    return [part for part in get_args(inner) or (inner,) if isinstance(part, type)]


WAYS = classes(AnyCombiner)
METHODS, ADAPTERS, REWARDS = classes(Method), classes(Adapter), classes(Reward)
JUDGES = classes(AnyJudge)


def kind_of(section: type[Any]) -> str:
    return str(get_args(section.model_fields["kind"].annotation)[0])


@pytest.mark.parametrize("section", [*METHODS, *ADAPTERS], ids=kind_of)
def test_impl_can_be_called(section: type[Any]) -> None:
    module, _, name = section.impl.partition(":")
    build = getattr(importlib.import_module(module), name)
    assert inspect.isfunction(build)
    assert inspect.getdoc(build)
    assert section.__doc__


@pytest.mark.parametrize("section", METHODS, ids=kind_of)
def test_methods_build_from_the_same_things(section: type[Any]) -> None:
    module, _, name = section.impl.partition(":")
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    expected = ["model", "tokenizer", "rows", "arguments", "setup"]
    assert list(parameters) == (expected if section.trains else ["job", "folder"])


@pytest.mark.parametrize("section", [*METHODS, *ADAPTERS], ids=kind_of)
def test_one_file_each(section: type[Any]) -> None:
    package = "methods" if issubclass(section, MethodSection) else "adapters"
    assert section.impl.partition(":")[0] == f"training.{package}.{kind_of(section)}"


def job_files() -> list[Path]:
    """Return the files of training jobs; those that prepare data have a section of that name."""
    files = sorted((ROOT / "jobs").glob("*.yaml"))
    return [path for path in files if "\nprepare:" not in path.read_text()]


def jobs() -> list[dict[str, Any]]:
    """Return every run that a job of ours describes."""
    documents = [yaml.safe_load(path.read_text()) for path in job_files()]
    return [run for document in documents for run in document.get("stages", [document])]


@pytest.mark.parametrize("section", ADAPTERS, ids=kind_of)
def test_one_job_each(section: type[Any]) -> None:
    kinds = [job["adapter"]["kind"] for job in jobs() if "adapter" in job]
    kinds += ["compose" for job in jobs() if "compose" in job]
    assert kind_of(section) in kinds, "show it in jobs/"


@pytest.mark.parametrize("path", job_files(), ids=lambda p: p.stem)
def test_jobs_say_what_they_are_and_are_fine(path: Path) -> None:
    searches = path.stem == "search"
    (load_search_job if searches else load_job)(path)
    head = path.read_text().split("\nname:")[0]
    command = f"Command:   make {'search' if searches else 'train'} JOB=jobs/{path.name}"
    for word in ("Purpose:", "Data:", "Hardware:", command):
        assert word in head, f"{path.name} does not say {word}"


def test_kinds_are_told_apart() -> None:
    for union in (METHODS, ADAPTERS):
        kinds = [kind_of(section) for section in union]
        assert len(kinds) == len(set(kinds))
        assert kinds


def test_no_section_is_left_out_of_its_union() -> None:
    def below(base: type[Any]) -> set[type[Any]]:
        """Return every class below that names what builds it; others are bases of such."""
        own = {base} if "impl" in vars(base) else set()
        return own.union(*(below(child) for child in base.__subclasses__()))

    assert below(MethodSection) == set(METHODS)
    assert below(AdapterSection) == set(ADAPTERS)


@pytest.mark.parametrize("section", REWARDS, ids=kind_of)
def test_rewards_are_made_from_the_same_things(section: type[Any]) -> None:
    module, _, name = section.impl.partition(":")
    build = getattr(importlib.import_module(module), name)
    assert list(inspect.signature(build).parameters) == ["section", "context"]
    assert module == f"training.rewards.{kind_of(section)}"
    assert inspect.getdoc(build) and section.__doc__


@pytest.mark.parametrize("section", WAYS, ids=kind_of)
def test_ways_of_meeting_have_a_file_each(section: type[Any]) -> None:
    module, _, name = section.impl.partition(":")
    assert inspect.getdoc(getattr(importlib.import_module(module), name)) and section.__doc__
    assert module == f"training.adapters.composition.combiners.{kind_of(section)}"


@pytest.mark.parametrize("section", JUDGES, ids=kind_of)
def test_judges_are_made_from_the_same_things(section: type[Any]) -> None:
    module, _, name = section.impl.partition(":")
    build = getattr(importlib.import_module(module), name)
    assert list(inspect.signature(build).parameters) == ["section", "context"]
    assert module == f"training.judges.{kind_of(section)}"
    assert inspect.getdoc(build) and section.__doc__


@pytest.mark.parametrize("section", METHODS, ids=kind_of)
def test_one_job_for_each_method(section: type[Any]) -> None:
    kinds = [job["method"]["kind"] for job in jobs()]
    assert kind_of(section) in kinds, "show it in jobs/"


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    """Return the import graph of `training`."""
    return grimp.build_graph("training", exclude_type_checking_imports=False)


@pytest.mark.parametrize(
    "union", [METHODS, WAYS, REWARDS, JUDGES], ids=["methods", "combiners", "rewards", "judges"]
)
def test_siblings_do_not_import_each_other(
    union: list[type[Any]], imports: grimp.ImportGraph
) -> None:
    siblings = {section.impl.partition(":")[0] for section in union}
    assert len(siblings) == len(union)
    illegal = imports.find_illegal_dependencies_for_layers(layers=[siblings])
    assert not illegal, [(found.importer, found.imported) for found in illegal]
