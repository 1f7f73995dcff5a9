"""The version in production of an evaluation step: a model, or a folder that says there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation import challenger
from evaluation.challenger import NO_CHAMPION, ChallengerOptions, evaluate_challenger
from evaluation.command import EvaluateOptions
from training.errors import TemperError


class Evaluated(Exception):  # noqa: N818 (no error: the call that is expected)
    """Raised in place of an evaluation, with the model to compare with."""


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ChallengerOptions:
    def evaluate(options: EvaluateOptions) -> None:
        raise Evaluated(options.against)

    monkeypatch.setattr(challenger, "run_evaluation", evaluate)
    champion = tmp_path / "champion"
    champion.mkdir()
    return ChallengerOptions(tmp_path, tmp_path, tmp_path / "out", champion)


@pytest.mark.parametrize(
    ("files", "compared"), [(["config.json", "README.md"], True), ([NO_CHAMPION], False)]
)
def test_the_folder_decides(options: ChallengerOptions, files: list[str], compared: bool) -> None:
    assert options.against is not None
    for name in files:
        (options.against / name).write_text("{}")
    with pytest.raises(Evaluated) as caught:
        evaluate_challenger(options)
    assert caught.value.args[0] == (str(options.against) if compared else None)


@pytest.mark.parametrize("files", [[], ["model.safetensors"], [NO_CHAMPION, "model.safetensors"]])
def test_a_champion_that_cannot_be_loaded_opens_no_gate(
    options: ChallengerOptions, files: list[str]
) -> None:
    assert options.against is not None
    for name in files:
        (options.against / name).write_text("{}")
    with pytest.raises(TemperError, match="is the version in production, and has no model"):
        evaluate_challenger(options)
