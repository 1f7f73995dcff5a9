"""The protocol of Transformers' trainer matches the installed version."""

import ast
import inspect
from pathlib import Path

import pytest
from transformers import Trainer

from training.trainer import trainer_types

TREE = ast.parse(Path(trainer_types.__file__).read_text())
CLASS = next(node for node in ast.walk(TREE) if isinstance(node, ast.ClassDef))
METHODS = {node.name: node for node in CLASS.body if isinstance(node, ast.FunctionDef)}
ATTRIBUTES = [str(node.target.id) for node in CLASS.body if isinstance(node, ast.AnnAssign)]


@pytest.mark.parametrize("name", [name for name in METHODS if name != "__init__"])
def test_a_method_takes_what_is_written_down(name):
    said = [a.arg for a in METHODS[name].args.args]
    found = list(inspect.signature(getattr(Trainer, name)).parameters)

    assert found[: len(said)] == said


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_attribute_is_set(name):
    source = inspect.getsource(Trainer)

    assert f"self.{name} =" in source or f"self.{name}, " in source
