"""Fixtures of all contestants: a model with random weights, rows and batch shape."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import yaml
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, set_seed

from training.config import Job
from training.config.load import parse_job
from training.data.schema.rows import CompletionRow
from training.data.tokenization.corpus import typed_rows
from training.models.tokenizer import train_tokenizer

LENGTH, BATCH, VOCABULARY, ROWS = 512, 8, 4096, 6000
SHAPE = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 7,
         "num_attention_heads": 8, "num_key_value_heads": 8}  # fmt: skip


def write_fixtures(source: str, folder: Path) -> None:
    """Write `rows.jsonl`, `model/` and `shape.json` to `folder`.

    Args:
        source: A data source of prompts and completions, as in a job.
        folder: The folder to create.
    """
    folder.mkdir(parents=True)
    rows = list(islice(_rows(source), ROWS))
    with (folder / "rows.jsonl").open("w") as file:
        for row in rows:
            # With the newline, scripts that concatenate prompt and completion train on the same
            # text as Temper.
            line = {"prompt": f"{row.prompt}\n", "completion": row.completion}
            file.write(json.dumps(line) + "\n")
    texts = (f"{row.prompt}\n{row.completion}" for row in rows)
    train_tokenizer(texts, VOCABULARY, folder / "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    set_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=LENGTH,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **SHAPE,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    (folder / "shape.json").write_text(json.dumps({"length": LENGTH, "batch": BATCH}))


def temper_job(fixtures: Path, steps: int, *, compiled: bool) -> str:
    """Return the job as YAML.

    Args:
        fixtures: The folder of `write_fixtures`.
        steps: Optimizer steps.
        compiled: Set `train.compile`.
    """
    return yaml.safe_dump(
        {
            "name": "speed",
            "model": {"source": str(fixtures / "model")},
            "data": {
                "train": str(fixtures / "rows.jsonl"),
                "max_length": LENGTH,
                "packing": True,
            },
            "method": {"kind": "sft", "loss_on": "completion"},
            "train": {
                "max_steps": steps,
                "global_batch_size": BATCH,
                "micro_batch_size": BATCH,
                "learning_rate": 1e-4,
                "compile": compiled,
            },
        }
    )


def _rows(source: str) -> list[CompletionRow]:
    data: dict[str, object] = {"train": source}
    if source.startswith("builtin:"):
        data = {"train": {"source": source, "subset": "qa"}}
    # The model is never loaded: only the rows are needed.
    model, method = {"source": "any/model"}, {"kind": "sft"}
    document = {"name": "rows", "model": model, "data": data, "method": method}
    job = parse_job(document, "the benchmark's rows")
    assert isinstance(job, Job)
    return [row for row in typed_rows(job) if isinstance(row, CompletionRow)]
