"""Real files of every shape, where they lie beside the checkout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tests.unit.data.data_factories import make_job
from training.config import Pipeline
from training.config.data import Source
from training.config.load import parse_job
from training.config.method_base import RowKind
from training.data.prepare import prepare
from training.data.readers.records import SourceRecord
from training.data.readers.sources import locate
from training.data.schema.rows import DialogueRow, PreferenceRow, PromptRow, RowError, UnpairedRow
from training.data.schema.schema_reader import SchemaReader
from training.data.storage.table import RowTable
from training.data.tokenization.mask_preview import preview_row
from training.data.tokenization.row_tokenizer import RowTokenizer

SHARED = Path(__file__).resolve().parents[4] / "shared"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the data sets in {SHARED}")

TEXTS = (
    "pretrain/*", "domain/*", "classification/*", "multilingual/udhr.jsonl.gz",
    "neardup/pride_prejudice_editions.jsonl.gz", "pii/*", "reasoning/mbpp.jsonl.gz",
)  # fmt: skip
PAIRS = (
    "sft/medquad_qa.parquet", "sft/self_instruct_human.jsonl", "sft/gpteacher_codegen.jsonl.gz",
    "eval/bbh.jsonl.gz", "eval/gsm8k_test.jsonl", "eval/truthfulqa.csv", "eval/humaneval.jsonl",
    "eval/mmlu.parquet", "multilingual/mgsm.jsonl.gz", "multilingual/xquad.parquet",
    "reasoning/gsm8k_train.jsonl.gz", "../contract/data/medquad.csv",
)  # fmt: skip
CHATS = (
    "sft/oasst1_en_threads.jsonl.gz", "sft/taskmaster4_tool_dialogs.jsonl.gz",
    "sft/glaive_toolcall_sharegpt.json",
)  # fmt: skip


def files(*patterns: str) -> list[str]:
    data = SHARED / "data"
    found = {
        str(path) for pattern in patterns for path in data.glob(pattern) if path.suffix != ".md"
    }
    return sorted(found) or ["no files here"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        SHARED / "data" / "models" / "stories260K-hf"
    )
    return found


@pytest.mark.parametrize("path", files(*TEXTS))
def test_texts_are_learned_whole(
    path: str, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    job = make_job(path, method="pretrain", max_length=256, packing=True, limit=60)
    result = prepare(job, tokenizer, cache_dir=tmp_path / "c", run_dir=tmp_path / "r")
    assert isinstance(result.train, RowTable)
    assert result.report.rows_dropped == 0
    assert result.train.num_supervised > 0.95 * result.train.num_tokens
    for i in range(min(20, len(result.train))):
        row = result.train[i]
        starts = [sum(row["seq_lengths"][:n]) for n in range(len(row["seq_lengths"]))]
        assert [row["input_ids"][s] for s in starts] == [1] * len(starts)
        assert row["input_ids"].count(1) == len(starts)


@pytest.mark.parametrize("template", [None, "chatml"])
@pytest.mark.parametrize("path", files(*PAIRS, *CHATS))
def test_answers_are_learned_exactly(
    path: str, template: str | None, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    chat = any(path.endswith(name) for name in CHATS)
    if chat and template is None:
        template = "zephyr"
    job = make_job(path, template=template, max_length=1024, limit=150)
    result = prepare(job, tokenizer, cache_dir=tmp_path / "c", run_dir=tmp_path / "r")
    assert isinstance(result.train, RowTable)
    answers = dict(_answers(path, 150))
    rows = RowTokenizer.for_job(job, tokenizer)
    exact = 0
    for i in range(len(result.train)):
        row = result.train[i]
        assert row["input_ids"].count(1) == 1 and row["labels"][0] == -100
        said = _learned(rows, row)
        wanted = answers[row["ids"][0]]
        whole = len(row["input_ids"]) < 1024
        if whole:
            assert row["labels"][-1] == 2
            assert len(said) == len(wanted)
            exact += 1
        for text, answer in zip(said, wanted, strict=False):
            # The last answer may be cut, maybe inside a character.
            assert answer.startswith(text.removesuffix("</s>").rstrip("\ufffd"))
    assert exact


def _answers(path: str, limit: int) -> Iterator[tuple[str, list[str]]]:
    source = Source(source=path)
    reader = SchemaReader(source, "dialogue")
    for number, (_, record) in enumerate(locate(source).records()):
        if number >= limit:
            return
        assert isinstance(record, SourceRecord)
        row: Any = reader.read(record)
        if isinstance(row, DialogueRow):
            yield row.id, [_said(m) for m in row.messages if m["role"] == "assistant"]
        else:
            yield row.id, [row.completion]


def _said(message: dict[str, Any]) -> str:
    import json

    parts = [message["content"]] if message["content"] else []
    for call in message.get("tool_calls", ()):
        function = call["function"]
        arguments = function["arguments"]
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        name = function["name"]
        parts.append(f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>')
    return "\n".join(parts)


def _learned(rows: Any, row: dict[str, Any]) -> list[str]:
    segments = preview_row("", row["input_ids"], row["labels"], rows.encoder).segments
    return [text for text, learned in segments if learned]


@pytest.mark.parametrize(
    ("name", "want", "kind"),
    [
        ("preference/hh_rlhf_harmless_pairs.jsonl.gz", "preference", PreferenceRow),
        ("preference/oasst1_en_ranked_pairs.jsonl.gz", "preference", PreferenceRow),
        ("preference/qa_feedback_pairs.parquet", "preference", PreferenceRow),
        ("preference/taskmaster4_reward_binary.jsonl.gz", "unpaired", UnpairedRow),
        ("reasoning/gsm8k_train.jsonl.gz", "prompt", PromptRow),
        ("eval/ifeval_en.jsonl", "prompt", PromptRow),
        ("reasoning/aqua_rat.jsonl", "prompt", PromptRow),
    ],
)
def test_other_kinds_are_read(name: str, want: RowKind, kind: type) -> None:
    source = Source(source=str(SHARED / "data" / name))
    reader = SchemaReader(source, want)
    good = bad = 0
    for _, record in locate(source).records():
        assert isinstance(record, SourceRecord)
        try:
            assert isinstance(reader.read(record), kind)
            good += 1
        except RowError:
            bad += 1
    assert good > 200 and bad <= 0.02 * good


@pytest.mark.parametrize("number", ["01", "02", "03", "04", "05", "06", "19"])
def test_contract_jobs_are_prepared(
    number: str,
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Their paths are relative to a checkout beside the shared folder.
    monkeypatch.chdir(SHARED.parent / Path(__file__).resolve().parents[3].name)
    (path,) = (SHARED / "contract" / "jobs").glob(f"{number}-*.yaml")
    document = yaml.safe_load(path.read_text())
    if "stages" in document:
        kinds = ("pretrain", "sft")
        document["stages"] = [s for s in document["stages"] if s["method"]["kind"] in kinds]
    job = parse_job(document, path.name)
    for stage in job.stages if isinstance(job, Pipeline) else [job]:
        result = prepare(stage, tokenizer, cache_dir=tmp_path / "c", run_dir=tmp_path / "r")
        assert isinstance(result.train, RowTable)
        assert len(result.train) > 100 and result.train.num_supervised > 1000
        assert (result.validation is not None) == stage.data.validation.wanted


def test_other_tokenizers_encode_pieces_exactly() -> None:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    path = SHARED / "data" / "models" / "tokenizers" / "gpt-neox-20b" / "tokenizer.json"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_file(str(path)), eos_token="<|endoftext|>",
        bos_token="<|endoftext|>", pad_token="<|endoftext|>",
    )  # fmt: skip
    rows = RowTokenizer.for_job(make_job("x", template="chatml"), tokenizer)
    messages = [
        {"role": "user", "content": "Hi <|endoftext|> there"},
        {"role": "assistant", "content": "Hello!"},
    ]
    (outcome,) = rows([DialogueRow("x:1", messages)])
    assert isinstance(outcome, list)
    labels = outcome[0].labels
    assert tokenizer.decode(labels[labels != -100]) == "Hello!<|endoftext|>"
    # Its own begin-of-text is only a name for the end: no text begins with it.
    assert outcome[0].input_ids[0] != tokenizer.bos_token_id
    assert list(outcome[0].input_ids).count(tokenizer.eos_token_id) == 2
