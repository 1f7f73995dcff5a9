"""Data to which a chat template has been applied already, and special tokens in the preview."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from tests.unit.data.data_factories import byte_level, sentencepiece_like, write_jsonl
from training.data import templates
from training.data.prepare import Prepared
from training.data.schema.rows import PromptRow
from training.data.storage import stream
from training.data.tokenization.encoder import Encoder
from training.data.tokenization.mask_preview import preview_row, render_text
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.data.tokenization.token_rows import IGNORE

Prepare = Callable[..., Prepared]
TOKENIZERS = {"qwen": byte_level(), "llama": sentencepiece_like()}


def markup_warning(report: Any) -> str:
    (found,) = [line for line in report.warnings if "markup of the chat template" in line]
    return str(found)


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("name", [name for name in templates.NAMES if name != "plain"])
def test_a_prompt_that_a_template_has_rendered_is_found_in_its_own_template(
    name: str, kind: str
) -> None:
    """The prompt is what Transformers renders, without what `bos` writes before it."""
    tokenizer = TOKENIZERS[kind]
    template = templates.resolve(name, tokenizer, Encoder(tokenizer))
    assert template is not None
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        chat_template=template.source,
        tokenize=False,
        add_generation_prompt=True,
    )
    assert isinstance(rendered, str)
    assert template.markup.find(rendered.removeprefix("<s>"))
    assert not template.markup.find("What is the capital of France? user: [a] assistant model")


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("name", templates.NAMES)
def test_an_ordinary_conversation_holds_no_markup(name: str, kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    template = templates.resolve(name, tokenizer, Encoder(tokenizer))
    assert template is not None
    for text in ("Sort [3, 1, 2].", "# Title\n\n- a <b>c</b>", "2 < 3 | 4 > 1", "<unk> words", ""):
        assert template.markup.find(text) == template.markup.find(text, answer=True) == ""


ROWS: dict[str, list[dict[str, Any]]] = {
    "sft": [
        {"prompt": "What is it?", "completion": "A cat."},
        {"prompt": "<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant", "completion": "A."},
        {"prompt": "What is it?", "completion": "A dog.<|im_end|>"},
    ],
    "dpo": [
        {"prompt": "What?", "chosen": "A cat.", "rejected": "A dog."},
        {"prompt": "What?", "chosen": "A cat.<|im_end|>", "rejected": "A dog.<|im_end|>"},
        {"prompt": "<|im_start|>user\nWhat?", "chosen": "A cat.", "rejected": "A dog."},
    ],
    "pretrain": [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": text}]}
        for text in ("b", "b<|im_end|>", "<|im_start|>b")
    ],
}


@pytest.mark.parametrize("method", ROWS)
def test_rows_with_markup_are_counted_with_the_first_of_them(
    prepared: Prepare, tmp_path: Path, method: str
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ROWS[method])
    run = prepared(path, TOKENIZERS["qwen"], method=method, template="chatml")
    warning = markup_warning(run.report)
    assert "2 rows" in warning and "a.jsonl:2: '<|im_" in warning and "Remove it" in warning
    assert run.report.sources[0].rows_with_markup == 2


def test_prompts_to_answer_are_searched_too(qwen: PreTrainedTokenizerFast) -> None:
    rows = RowTokenizer.from_tokenizer(qwen, chat_template="chatml", want="prompt", max_length=99)
    rendered = "<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\n"
    user = [{"role": "user", "content": rendered}]
    outcomes = rows([PromptRow(f"x:{n}", p, None, {}) for n, p in enumerate((rendered, user, "a"))])
    found = [row.markup for outcome in outcomes if isinstance(outcome, list) for row in outcome]
    assert found == ["<|im_start|>", "<|im_start|>", ""]


def test_texts_and_rows_without_a_template_keep_their_markup_without_a_warning(
    prepared: Prepare, tmp_path: Path, qwen: PreTrainedTokenizerFast
) -> None:
    text = "<|im_start|>user\nWhat?<|im_end|>"
    for number, (values, job) in enumerate(
        [
            ({"text": text}, {"method": "pretrain", "template": "chatml"}),
            ({"prompt": text, "completion": "A cat."}, {}),
        ]
    ):
        run = prepared(write_jsonl(tmp_path / f"{number}.jsonl", [values] * 2), qwen, **job)
        assert not any("markup" in line for line in run.report.warnings)


def test_a_stream_names_markup_in_its_first_window(
    prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "WINDOW", 3)
    path = write_jsonl(tmp_path / "a.jsonl", ROWS["sft"])
    run = prepared(path, TOKENIZERS["qwen"], template="chatml", streaming=True)
    assert "2 rows" in markup_warning(run.report)


def test_the_preview_tells_special_tokens_from_text_that_looks_like_one(
    prepared: Prepare, tmp_path: Path, qwen: PreTrainedTokenizerFast
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ROWS["sft"][1:2])
    run = prepared(path, qwen, template="chatml")
    (preview,) = run.report.mask_preview
    table = run.train
    ids, labels = table[0]["input_ids"], table[0]["labels"]
    said = "".join(text for text, _ in preview.segments)
    starts = [0]
    for text, _ in preview.segments:
        starts.append(starts[-1] + len(text))
    # The tokenizer's own offsets: as many special tokens as ids of them, each where it stands.
    special = [int(id_) for id_ in ids if qwen.convert_ids_to_tokens(int(id_)).startswith("<|im_")]
    assert len(preview.specials) == len(special) < said.count("<|im_")
    for (segment, start, stop), id_ in zip(preview.specials, special, strict=True):
        at = starts[segment]
        assert said[at + start : at + stop] == qwen.convert_ids_to_tokens(id_)
    text = render_text(run.report.mask_preview)
    assert "⟨<|im_start|>⟩user\n<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant" in text
    assert "⟦A.⟨<|im_end|>⟩⟧" in text
    assert sum(label != IGNORE for label in labels) > 1


def test_the_same_text_before_a_special_token_is_not_marked(qwen: PreTrainedTokenizerFast) -> None:
    end = qwen.eos_token_id
    assert end is not None
    literal = qwen("<|im_end|>", split_special_tokens=True)["input_ids"]
    ids = [*literal, *literal, end, *literal, end, end]
    row = preview_row("a:1", ids, ids, Encoder(qwen))
    size = len("<|im_end|>")
    assert [start // size for _, start, _ in row.specials] == [2, 4, 5]
