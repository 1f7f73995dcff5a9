"""The optional dependencies of commands, and the message when they are not installed."""

from __future__ import annotations

from importlib.util import find_spec

from training.errors import TemperError

EXTRAS = {
    "train": (
        *("torch", "transformers", "trl", "peft", "accelerate", "datasets", "safetensors"),
        *("tokenizers", "numpy", "pyarrow", "psutil", "filelock", "jinja2"),
        *("matplotlib", "mlflow", "jsonschema", "regex", "httpx2", "gguf", "sacrebleu"),
    ),
    "launch": ("boto3", "botocore"),
    "serve": ("starlette", "uvicorn"),
    "llama-cpp": ("xllamacpp",),
    "search": ("optuna", "sklearn", "scipy"),
    "feedback": ("nltk", "networkx"),
    "prepare": ("datatrove", "ftfy", "xxhash", "pycld2", "sklearn"),
}
"""The top-level modules that each extra of pyproject.toml installs."""

_CHECKOUT_ONLY = ("stacks", "emulator", "aws_cdk", "constructs", "moto")


class MissingExtraError(TemperError):
    """A command needs packages that a plain `pip install temper` leaves out."""


def missing_extra(module: str) -> str:
    """Return the message for a module that cannot be imported; empty if no extra installs it."""
    package = module.partition(".")[0]
    if package in _CHECKOUT_ONLY:
        return (
            f"{package} is not installed. This command builds the platform: run it in a checkout "
            'of Temper, after `pip install ".[infra]"` or with make'
        )
    for extra, modules in EXTRAS.items():
        if package in modules:
            return (
                f"{package} is not installed. This command needs the extra {extra!r}: "
                f'pip install "temper[{extra}]"'
            )
    return ""


def require(extra: str) -> None:
    """Check that the packages of an extra are installed, without importing them.

    Training imports them in a process of its own, whose traceback would reach the user.

    Raises:
        MissingExtraError: One of them is not installed.
    """
    for module in EXTRAS[extra]:
        if find_spec(module) is None:
            raise MissingExtraError(missing_extra(module))
