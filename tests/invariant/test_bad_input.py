"""A wrong input gives one clear message, the right exit code and no traceback.

Nothing that looks finished is left behind.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.run_commands import Ended, Run, changed, finish, start_command
from training.__main__ import main
from training.worker import main as work

Job = dict[str, Any]


def run_here(job: Path, runs: Path, capsys: pytest.CaptureFixture[str]) -> Ended:
    """Run the command in this process, up to where it would start a worker."""
    code = main([str(job), "--runs", str(runs)])
    said = capsys.readouterr()
    return Ended(code, said.out, said.err)


# --- exit code 2: the job ------------------------------------------------------------------------

NO_JOB: list[tuple[str, bytes | Job, list[str]]] = [
    ("wrong YAML", b"name: [a\nmodel: b\n", ["line 2"]),
    ("empty file", b"", ["mapping"]),
    ("not UTF-8", b"\xff\xfe\x00", ["UTF-8"]),
    ("unknown key", {"train": {"lr": 1}}, ["train.lr", "Did you mean learning_rate?"]),
    ("impossible value", {"train": {"learning_rate": -1}}, ["train.learning_rate", "-1"]),
    ("not a number", {"train": {"learning_rate": float("nan")}}, ["train.learning_rate"]),
    ("infinite", {"train": {"learning_rate": float("inf")}}, ["train.learning_rate"]),
    ("wrong name", {"name": "no spaces please"}, ["no spaces please", "hyphens"]),
    ("wrong kind", {"method": {"kind": "sftt"}}, ["method.kind", "Did you mean sft?"]),
    ("no data", {"data": {"max_length": 64}}, ["data.train", "is required"]),
    ("split of 0", {"data": {"train": "x", "validation": {"split": 0}}}, ["data.validation"]),
    ("more processes than cores", {"resources": {"processes": 4096},
     "train": {"global_batch_size": 4096}}, ["resources.processes", "4096", "cores", "Set it to"]),
]  # fmt: skip


@pytest.mark.parametrize(("job", "words"), [c[1:] for c in NO_JOB], ids=[c[0] for c in NO_JOB])
def test_invalid_job(
    document: Job,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    job: bytes | Job,
    words: list[str],
) -> None:
    path = tmp_path / "job.yaml"
    if isinstance(job, bytes):
        path.write_bytes(job)
    else:
        section = {k: v for k, v in job.items() if k != "data"}
        whole = changed(document, **section)
        whole["train"].pop("micro_batch_size")
        if "data" in job:
            whole["data"] = job["data"]
        path.write_text(yaml.safe_dump(whole))
    ended = run_here(path, tmp_path / "runs", capsys)
    assert ended.code == 2, ended
    for word in [str(path), *words]:
        assert word in ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "runs").exists()


def test_no_job_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = run_here(tmp_path / "none.yaml", tmp_path / "runs", capsys)
    assert ended.code == 2
    assert "no such file" in ended.err


# --- exit codes 3 and 4: what the worker meets ---------------------------------------------------


def write(content: bytes | str, name: str = "rows.jsonl") -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return make


def good_rows(number: int = 40) -> str:
    return "".join(
        json.dumps({"prompt": f"What is {n}?", "completion": f"It is the number {n}."}) + "\n"
        for n in range(number)
    )


def empty_folder(folder: Path) -> str:
    (folder / "rows").mkdir()
    return str(folder / "rows")


def folder_of_pictures(folder: Path) -> str:
    (folder / "rows").mkdir()
    (folder / "rows/a.png").write_bytes(b"\x89PNG")
    return str(folder / "rows")


LONG_CSV = "prompt,completion\n" + "".join(f"q{n},a{n}\n" for n in range(30))
LATE_ERROR = good_rows(2000) + "{not json}\n" + good_rows(5)

NO_DATA: list[tuple[str, Callable[[Path], str], list[str]]] = [
    ("missing file", lambda folder: str(folder / "none.jsonl"), ["none.jsonl"]),
    ("empty file", write(b""), ["rows.jsonl"]),
    ("empty folder", empty_folder, ["rows"]),
    ("folder without data", folder_of_pictures, ["rows"]),
    ("truncated gzip", write(gzip.compress(good_rows(500).encode())[:-200], "rows.jsonl.gz"),
     ["rows.jsonl.gz"]),
    ("no gzip at all", write(good_rows(), "rows.jsonl.gz"), ["rows.jsonl.gz"]),
    ("broken UTF-8", write(good_rows().encode() + b'{"prompt": "caf\xe9", "completion": "x"}\n'),
     ["rows.jsonl", "41", "UTF-8"]),
    ("wrong header", write(LONG_CSV.replace("prompt,completion", "foo,bar"), "rows.csv"),
     ["rows.csv", "foo", "bar"]),
    ("ragged rows", write(LONG_CSV + "q,a,one too many\n", "rows.csv"), ["rows.csv", "32"]),
    ("one bad line in thousands", write(LATE_ERROR), ["rows.jsonl", "2001", "data.on_error"]),
    ("no object", write("[1, 2]\n" * 10), ["rows.jsonl"]),
    ("only empty answers", write('{"prompt": "a", "completion": ""}\n' * 20), ["rows.jsonl"]),
    ("answers beyond max_length", write(
        json.dumps({"prompt": "long " * 300, "completion": "x"}) + "\n"), ["data.max_length"]),
]  # fmt: skip


def train_worker(document: Job, folder: Path) -> tuple[int, str]:
    """Run the worker in this process; return its exit code and the message it leaves word of."""
    from training.config.load import parse_job
    from training.run_folder import RunFolder

    run = RunFolder.create(folder / "run", parse_job(document, "test"))
    code = work(run.path)
    left = run.read_failure()
    if code == 0:
        return 0, ""
    assert left is not None
    assert left.exit_code == code
    assert not run.model.exists()
    assert run.state != "finished"
    return code, str(left)


def assert_clear(message: str, words: list[str]) -> None:
    for word in words:
        assert word in message, message
    assert "Traceback" not in message
    assert "Error:" not in message, f"a library's error, not a message of ours: {message}"
    assert len(message) < 1500


@pytest.mark.parametrize(("make", "words"), [c[1:] for c in NO_DATA], ids=[c[0] for c in NO_DATA])
def test_invalid_data(
    document: Job, tmp_path: Path, make: Callable[[Path], str], words: list[str]
) -> None:
    job = changed(document, data={"train": make(tmp_path)}, train={"max_steps": 2})
    code, message = train_worker(job, tmp_path)
    assert code == 3, message
    assert_clear(message, words)


def test_bad_lines_may_be_skipped(document: Job, tmp_path: Path) -> None:
    rows = write(LATE_ERROR)(tmp_path)
    job = changed(document, data={"train": rows, "on_error": "skip"}, train={"max_steps": 2})
    code, _ = train_worker(job, tmp_path)
    assert code == 0
    skipped = [json.loads(line) for line in (tmp_path / "run/skipped.jsonl").open()]
    assert len(skipped) == 1
    assert "2001" in json.dumps(skipped[0])


def test_a_row_of_ten_megabytes(document: Job, tmp_path: Path) -> None:
    """It is cut to max_length, or dropped with the reason; the rest trains."""
    huge = json.dumps({"prompt": "Say a lot.", "completion": "lot " * 2_500_000}) + "\n"
    rows = write(good_rows() + huge)(tmp_path)
    job = changed(document, data={"train": rows}, train={"max_steps": 2})
    code, message = train_worker(job, tmp_path)
    assert code == 0, message
    assert Run(tmp_path / "run").steps[-1]["step"] == 2


# --- models --------------------------------------------------------------------------------------


def without_weights(model: Path, folder: Path) -> str:
    target = folder / "model"
    target.mkdir()
    for path in model.iterdir():
        if path.suffix != ".safetensors":
            (target / path.name).write_bytes(path.read_bytes())
    return str(target)


def with_torn_weights(model: Path, folder: Path) -> str:
    target = Path(without_weights(model, folder))
    whole = (model / "model.safetensors").read_bytes()
    (target / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    return str(target)


def without_tokenizer(model: Path, folder: Path) -> str:
    target = folder / "model"
    target.mkdir()
    for name in ("config.json", "model.safetensors"):
        (target / name).write_bytes((model / name).read_bytes())
    return str(target)


NO_MODEL: list[tuple[str, Callable[[Path, Path], str], list[str]]] = [
    ("missing folder", lambda model, folder: str(folder / "none"), ["none", "does not exist"]),
    ("a file", lambda model, folder: str(model / "config.json"), ["config.json"]),
    ("empty folder", lambda model, folder: empty_folder(folder), ["rows"]),
    ("without weights", without_weights, ["no weights", "safetensors"]),
    ("torn weights", with_torn_weights, ["model"]),
    ("without tokenizer", without_tokenizer, ["tokenizer"]),
    ("Hub id without network", lambda model, folder: "nobody/no-such-model",
     ["nobody/no-such-model", "network"]),
]  # fmt: skip


@pytest.mark.parametrize(("make", "words"), [c[1:] for c in NO_MODEL], ids=[c[0] for c in NO_MODEL])
def test_invalid_model(
    document: Job,
    tiny_model: Path,
    tmp_path: Path,
    make: Callable[[Path, Path], str],
    words: list[str],
) -> None:
    job = changed(document, model={"source": make(tiny_model, tmp_path)})
    code, message = train_worker(job, tmp_path)
    assert code == 4, message
    assert_clear(message, words)


NO_RUN: list[tuple[str, Job, list[str]]] = [
    ("fp16 on a CPU", {"precision": "fp16"}, ["fp16", "CPU", "bf16"]),
    ("flash attention on a CPU", {"model": {"attention": "flash_attention_2"},
     "precision": "bf16"}, ["flash_attention_2", "sdpa"]),
    ("freezing more layers than there are", {"model": {"freeze": {"layers": 9}}}, ["9", "2"]),
    ("freezing what is not there", {"model": {"freeze": {"patterns": ["nope"]}}}, ["nope"]),
    ("freezing everything", {"model": {"freeze": {"patterns": ["."]}}}, ["nothing to learn"]),
    ("adapting what is not there", {"adapter": {"kind": "lora", "target_modules": ["c_attn"]}},
     ["c_attn", "q_proj"]),
]  # fmt: skip


@pytest.mark.parametrize(("sections", "words"), [c[1:] for c in NO_RUN], ids=[c[0] for c in NO_RUN])
def test_run_that_cannot_be_started(
    document: Job, tmp_path: Path, sections: Job, words: list[str]
) -> None:
    code, message = train_worker(changed(document, **sections), tmp_path)
    assert code == 4, message
    assert_clear(message, words)


# --- once through everything ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("code", [3, 4])
def test_by_the_command(document: Job, tmp_path: Path, code: int) -> None:
    job = (
        changed(document, data={"train": write(LATE_ERROR)(tmp_path)})
        if code == 3
        else changed(document, model={"freeze": {"layers": 9}})
    )
    ended = finish(start_command(job, tmp_path))
    assert ended.code == code
    assert len(ended.err.strip().splitlines()) == 1, ended.err
    assert_clear(ended.err, ["2001"] if code == 3 else ["9", "2"])
    runs = list((tmp_path / "runs/tiny").iterdir())
    states = {Run(path).state for path in runs}
    assert states == {"failed"}
    assert not any((path / "model").exists() for path in runs)
