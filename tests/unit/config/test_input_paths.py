"""Paths of a job: found next to its file, and missing ones named before anything is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.factories import write_jsonl
from tests.run_commands import ROOT
from training.config import Job, load_job
from training.config.input_paths import require_inputs
from training.errors import DataError, ModelError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a job, its data and its model; the working directory is another."""
    folder = tmp_path / "project"
    (folder / "shape").mkdir(parents=True)
    (folder / "data").mkdir()
    write_jsonl(folder / "data/rows.jsonl", [{"text": "a"}])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


def write_job(folder: Path, **sections: Any) -> Path:
    document = {
        "name": "moved",
        "model": {"source": "./shape"},
        "data": {
            "train": [{"source": "data/rows.jsonl", "weight": 2}],
            "validation": "data/rows.jsonl",
        },
        "method": {"kind": "sft"},
        "train": {"max_steps": 2},
        **sections,
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def sources(job: Any) -> list[str]:
    assert isinstance(job, Job)
    return [job.model.source, *(source.source for source in job.data.train)]


def test_paths_next_to_the_job(folder: Path) -> None:
    job = load_job(write_job(folder))
    assert sources(job) == [str(folder / "shape"), str(folder / "data/rows.jsonl")]
    assert isinstance(job, Job) and job.data.train[0].weight == 2
    require_inputs(job, folder)


def test_spelling_of_the_job_path_changes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rerun would otherwise be another job, and start over."""
    absolute = write_job(folder)
    monkeypatch.chdir(folder.parent)
    jobs = [load_job(path) for path in (absolute, Path("project/job.yaml"))]
    jobs.append(load_job(Path("elsewhere/../project/job.yaml")))
    assert jobs[0] == jobs[1] == jobs[2]
    assert sources(jobs[0]) == ["project/shape", "project/data/rows.jsonl"]


def test_working_directory_comes_first(folder: Path) -> None:
    Path("data").mkdir()
    write_jsonl(Path("data/rows.jsonl"), [{"text": "b"}])
    assert sources(load_job(write_job(folder)))[1] == "data/rows.jsonl"


def test_every_missing_path_is_named(folder: Path) -> None:
    job = write_job(
        folder,
        model={"source": "./shap"},
        data={"train": [{"source": "data/row.jsonl"}, {"source": "no/such/folder"}]},
    )
    with pytest.raises(DataError) as caught:
        require_inputs(load_job(job), folder)
    text = str(caught.value)
    assert "data.train.0.source: data/row.jsonl: there is no such file or folder" in text
    assert f"{Path.cwd()}/data/row.jsonl nor {folder}/data/row.jsonl" in text
    assert f"Did you mean {folder}/data/rows.jsonl?" in text
    assert "data.train.1.source: no/such/folder" in text
    assert "model.source: ./shap" in text and f"Did you mean {folder}/shape?" in text


def test_only_a_model_is_missing(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.source: /no/such/model: there is no such"):
        require_inputs(load_job(write_job(folder, model={"source": "/no/such/model"})), folder)


def test_names_that_are_no_paths(folder: Path) -> None:
    """A Hub id needs the network; an address, a channel and a builtin have their own messages."""
    for source in ("owner/rows", "s3://bucket/rows.jsonl", "channel:train", "builtin:none"):
        job = write_job(folder, model={"source": "owner/name"}, data={"train": source})
        require_inputs(load_job(job), folder)


@pytest.mark.parametrize(
    ("sections", "code", "message"),
    [
        ({"data": {"train": "row.jsonl"}}, 3, "row.jsonl: there is no such file or folder"),
        ({"model": {"source": "./none"}}, 4, "./none: there is no such file or folder"),
        ({"trian": {}}, 2, "trian"),
    ],
)
def test_problems_are_reported_before_torch_is_loaded(
    sections: dict[str, Any], code: int, message: str, folder: Path
) -> None:
    program = (
        "import sys; from temper.cli import main; code = main(sys.argv[1:]);"
        "print('torch' in sys.modules or 'transformers' in sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "train", str(write_job(folder, **sections))],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "False\n"), done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not Path("runs").exists()
