"""Another package trains the same in its own interpreter, or its row says what is missing."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.case import CaseFailedError, NotInstalledError
from benchmarks.gpu.gather_wheels import LIST, read_list
from benchmarks.gpu.parts import speed
from benchmarks.gpu.peers import interpreter
from benchmarks.gpu.peers.interpreter import PEERS, Peer
from benchmarks.gpu.results import ResultsFile
from benchmarks.gpu.run_part import run_part
from benchmarks.gpu.scale import Scale

# Its package is installed wherever the tests run; it is a script in the folder that it runs in.
FAKE = Peer("Fake", "pytest", "0", "fake_peer")
STEPS = """
import json, sys
given = json.load(open(sys.argv[1]))
with open(sys.argv[2], "w") as file:
    print(json.dumps({{"lengths": {lengths}}}), file=file)
    for end in {ends}:
        print(json.dumps({{"end_s": end, "loss": 6.0 - end / 100, "peak_gib": 1.5}}), file=file)
print(given["lora"], "was said", flush=True)
{then}
"""


@pytest.fixture(scope="module")
def scale(tmp_path_factory: pytest.TempPathFactory) -> Scale:
    return Scale("cpu", tmp_path_factory.mktemp("gpu"))


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "pytest", FAKE)
    monkeypatch.setenv("PYTEST_PYTHON", sys.executable)


@pytest.fixture
def _no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make no model: the fake peer trains none."""
    monkeypatch.setattr(Scale, "model", lambda self, size="small": self.home / size)
    monkeypatch.setattr(speed, "_mfu", lambda *_: 0.5)


def run(
    scale: Scale,
    folder: Path,
    *,
    lengths: str = "[64]",
    ends: str = "[10, 30, 31, 33, 99]",
    then: str = "",
) -> dict[str, Any]:
    """Run the first case of the fake peer, with a script that writes these steps."""
    (folder / "pytest").mkdir()
    script = STEPS.format(lengths=lengths, ends=ends, then=then)
    (folder / "pytest" / "fake_peer.py").write_text(script)
    return dict(next(iter(speed.cases(scale, "pytest"))).run(folder))


@pytest.mark.usefixtures("_no_model")
def test_speed_without_warm_up_and_surplus_steps(scale: Scale, tmp_path: Path) -> None:
    """Steps 3 and 4 of 4 took 1 and 2 s; the first two are warm-up, and the fifth is surplus."""
    measured = run(scale, tmp_path)
    assert measured["tokens_per_second"] == pytest.approx(4 * 64 / 1.5)
    assert (measured["steps"], measured["peak_gib"]) == (4, 1.5)
    assert (measured["first_loss"], measured["last_loss"]) == (5.9, 5.67)
    assert measured["versions_of_peer"]["pytest"] == pytest.__version__


@pytest.mark.usefixtures("_no_model")
@pytest.mark.parametrize(
    ("planted", "said"),
    [
        ({"lengths": "[40, 64]"}, r"rows of \[40, 64\] tokens; they must all have 64"),
        ({"ends": "[1, 2, 3]"}, "trained 3 steps of 4"),
        ({"ends": "[]"}, "trained 0 steps of 4"),
        ({"then": "sys.exit(3)"}, "Fake: exit code 3: False was said"),
        ({"then": "import time; time.sleep(60)"}, "Fake: stopped above the limit of 1 s"),
    ],
)
def test_run_that_is_not_the_same_fails(
    planted: dict[str, str],
    said: str,
    scale: Scale,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "limit" in said:
        monkeypatch.setattr(interpreter, "LIMIT_S", 1.0)
    with pytest.raises(CaseFailedError, match=said):
        run(scale, tmp_path, **planted)


@pytest.mark.parametrize("package", ["torchtune", "llamafactory", "unsloth"])
def test_peer_that_is_not_installed_is_a_row(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(f"{package.upper()}_PYTHON", raising=False)
    results = ResultsFile(tmp_path / "results.jsonl")
    scale = Scale("cpu", tmp_path / "home")
    scale.home.mkdir()
    assert run_part(f"speed-{package}", scale, results) == 0
    assert {row["status"] for row in results.rows()} == {"not installed"}
    for row in results.rows():
        said = f"not installed: {package} {PEERS[package].version}; there is no interpreter "
        assert row["error"].startswith(f"{said}{scale.home}/peers/{package}/bin/python")
        assert f"{package.upper()}_PYTHON" in row["error"]
        assert "tokens_per_second" not in row
    assert not (scale.home / "models").exists()  # no 8B model is made for a row without a number


def test_interpreter_that_lacks_the_package_or_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNSLOTH_PYTHON", sys.executable)
    with pytest.raises(NotInstalledError, match=rf"not installed: unsloth .* in {sys.executable}"):
        PEERS["unsloth"].versions(tmp_path, on_gpu=True)
    needing = replace(FAKE, needs_gpu=True)
    assert "pytest" in needing.versions(tmp_path, on_gpu=True)
    with pytest.raises(NotInstalledError, match="can be imported only with a GPU"):
        needing.versions(tmp_path, on_gpu=False)


def test_three_runs_end_within_the_limit_of_a_part(tmp_path: Path) -> None:
    cases = list(speed.cases(Scale("cuda", tmp_path), "unsloth"))
    assert len(cases) * interpreter.LIMIT_S < 8 * 60
    ours = [case.name for case in speed.cases(Scale("cuda", tmp_path)) if "Temper" in case.name]
    assert [case.name.replace("Unsloth", "Temper") for case in cases] == ours


@pytest.mark.parametrize("package", ["torchtune", "llamafactory", "unsloth"])
def test_list_of_wheels_has_the_peer_and_what_differs(package: str) -> None:
    common = dict(line.split("==") for line in read_list(LIST))
    listed = dict(line.split("==") for line in read_list(LIST.parent / "peers" / f"{package}.txt"))
    assert listed[package] == PEERS[package].version
    assert "torch" not in listed
    assert not {name for name, version in listed.items() if common.get(name) == version}
    page = (LIST.parent / "README.md").read_text()
    assert re.search(rf"`speed-{package}`", page) and f"{package.upper()}_PYTHON" in page


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "tolerance"),
    # LLaMA-Factory joins the rows and cuts them elsewhere, so that its first batch has other text,
    # and its version of Transformers divides by all 64 labels, of which 63 are predicted.
    [("torchtune", 1e-3), ("llamafactory", 3e-2)],
)
def test_installed_peer_starts_from_the_same_weights(
    package: str, tolerance: float, scale: Scale, tmp_path: Path
) -> None:
    """The first loss is that of plain Transformers: same weights, rotary embeddings and rows."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not os.environ.get(f"{package.upper()}_PYTHON"):
        pytest.skip(
            f"{package} is not installed here: benchmarks/gpu/README.md says how; then name its "
            f"interpreter with {package.upper()}_PYTHON"
        )
    model = AutoModelForCausalLM.from_pretrained(scale.model())
    tokenizer = AutoTokenizer.from_pretrained(scale.model())
    lines = (scale.rows / "long.jsonl").read_text().splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    ids = torch.tensor([tokenizer(text)["input_ids"][:64] for text in texts])
    with torch.no_grad():
        expected = float(model(input_ids=ids, labels=ids).loss)
    for number, case in enumerate(speed.cases(scale, package)):
        (tmp_path / str(number)).mkdir()
        measured = case.run(tmp_path / str(number))
        assert measured["first_loss"] == pytest.approx(expected, rel=tolerance)
        assert measured["last_loss"] != measured["first_loss"]
