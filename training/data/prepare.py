"""Data preparation: from a job's data section to tables of token rows, with a report.

`prepare` may be called by every process of a run without a collective: one process does the work
under a file lock, and the others wait for the lock and memory-map the same files.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from training.config.data import Source
from training.config.job import Job
from training.data.mixing.mixture import (
    MIXED,
    TRAIN,
    VALIDATION,
    Mixture,
    all_rows,
    is_grouped,
    pack_in_order,
)
from training.data.readers.ingest import DROPPED, SKIPPED, Ingested, tokenize_source
from training.data.readers.sources import ResolvedSource, distinct, locate
from training.data.report import DataReport
from training.data.report_builder import ReportBuilder, save_report
from training.data.schema.schema_reader import SchemaReader
from training.data.storage.cache import Cache, cache_key
from training.data.storage.source_stream import SourceStream
from training.data.storage.stream import StreamSettings, StreamTable
from training.data.storage.table import RowTable, load_row_table, write_row_table
from training.data.tokenization.corpus import iter_texts, load_texts
from training.data.tokenization.encoder import fingerprint
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.data.warnings import left_out_warnings
from training.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Prepared", "iter_texts", "load_texts", "prepare"]

PROMPTS = "prompts.jsonl"


@dataclass(frozen=True)
class Prepared:
    """Prepared data of a run.

    Attributes:
        train: Training rows.
        validation: Held-out rows; None if the job holds none out.
        report: Summary of the rows.
        row_tokenizer: Row tokenizer of the run, to encode prompts as in training.
    """

    train: RowTable | StreamTable
    validation: RowTable | None
    report: DataReport
    row_tokenizer: RowTokenizer


def prepare(
    job: Job, tokenizer: PreTrainedTokenizerBase, *, cache_dir: Path, run_dir: Path
) -> Prepared:
    """Read, tokenize, mix and pack the data of a job; save the report in the run folder.

    Writes `data.json`, `mask_preview.txt`, `dropped.jsonl` and `skipped.jsonl` to `run_dir`.

    Args:
        job: The run.
        tokenizer: Tokenizer of the model.
        cache_dir: Folder that keeps tokenized data for other runs on the same data.
        run_dir: The run folder.

    Raises:
        DataError: The data cannot be read, or no row is left to train on.
    """
    preparer = DataPreparer(job, tokenizer, Cache(cache_dir, fallback=run_dir / "cache"), run_dir)
    prepared = preparer.prepare_stream() if job.data.streaming else preparer.prepare_mixture()
    if _is_main_process():
        save_report(prepared.report, run_dir, preparer.ingested)
    return prepared


def _is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


class DataPreparer:
    """Preparation of the data of one run.

    Args:
        job: The run.
        tokenizer: Tokenizer of the model.
        cache: Cache of tokenized sources and mixtures.
        run_dir: The run folder.

    Attributes:
        ingested: Sources tokenized so far, in the order in which they were read.
    """

    def __init__(self, job: Job, tokenizer: PreTrainedTokenizerBase, cache: Cache, run_dir: Path):
        self._job = job
        self._data = job.data
        self._cache = cache
        self._run_dir = run_dir
        self._tokenizer = tokenizer
        self._rows = RowTokenizer.for_job(job, tokenizer)
        self._fingerprint = fingerprint(tokenizer)
        warnings = [cache.fallback_reason] if cache.fallback_reason else []
        self._reports = ReportBuilder(job, self._rows, warnings)
        self.ingested: list[Ingested] = []

    def prepare_mixture(self) -> Prepared:
        """Tokenize all sources and mix them into tables.

        Raises:
            DataError: The data cannot be read, or no row is left to train on.
        """
        data = self._data
        sources, validation_source, replay_source = self._locate_sources()
        train = [self._tokenize(source, data.limit) for source in sources]
        self._check_rows_left(train)
        validation = self._tokenize(validation_source, None) if validation_source else None
        replay = self._tokenize(replay_source, None) if replay_source else None
        key = cache_key(
            "mixed", [i.folder.name for i in self.ingested], [i.source.weight for i in train],
            data.limit, data.validation.split, data.replay and data.replay.share,
            data.packing, data.shuffle, data.max_length, self._job.train.seed,
            is_grouped(self._job),
            # Only if set: the mixtures of other runs keep their entries.
            *(["group", data.validation.group_column] if data.validation.group_column else []),
        )  # fmt: skip
        entry = self._cache.entry(
            key, lambda folder: Mixture(self._job, train, validation, replay).write(folder)
        )
        about = json.loads((entry / MIXED).read_text())
        table = load_row_table(entry / TRAIN, about["train"])
        held_out = None
        if about["validation"]:
            held_out = load_row_table(entry / VALIDATION, about["validation"])
        roles = (
            ["train"] * len(train) + ["validation"] * bool(validation) + ["replay"] * bool(replay)
        )
        ingested = list(zip(self.ingested, roles, strict=True))
        report = self._reports.of_mixture(table, held_out, about, ingested)
        return Prepared(table, held_out, report, self._rows)

    def prepare_stream(self) -> Prepared:
        """Open a stream and read its first window, so that bad data fails before training.

        Raises:
            DataError: The data cannot be read, or no row is left to train on.
        """
        data = self._data
        sources, validation_source, replay_source = self._locate_sources()
        streams = [self._open_stream(source) for source in sources]
        replay = self._open_stream(replay_source) if replay_source else None
        validation = self._tokenize(validation_source, None) if validation_source else None
        if _is_main_process():
            self._run_dir.mkdir(parents=True, exist_ok=True)
            for name in (DROPPED, SKIPPED):
                (self._run_dir / name).write_bytes(b"")
        settings = StreamSettings(
            packing=data.packing,
            shuffle=data.shuffle,
            seed=self._job.train.seed,
            on_error=data.on_error,
            replay_share=data.replay.share if data.replay else 0.0,
        )
        weights = [stream.located.source.weight for stream in streams]
        log_folder = self._run_dir if _is_main_process() else None
        # The background thread that reads windows needs its own copy of the tokenizer: tokenizers
        # are not thread-safe.
        rows = RowTokenizer.for_job(self._job, copy.deepcopy(self._tokenizer))
        table = StreamTable(streams, weights, replay, rows, settings, log_folder)
        window = [table[0], *table.window()[1:]]
        held_out = self._held_out_table(validation) if validation else None
        report = self._reports.of_stream(table, window, streams, held_out)
        return Prepared(table, held_out, report, self._rows)

    def _locate_sources(
        self,
    ) -> tuple[list[ResolvedSource], ResolvedSource | None, ResolvedSource | None]:
        """Return the training sources, the validation source and the replay source."""
        data = self._data
        sources = (self._write_prompts(),) if data.prompts else data.train
        others = (data.validation.source, data.replay.source if data.replay else None)
        located = iter(distinct([locate(s) for s in (*sources, *others) if s is not None]))
        train = [next(located) for _ in sources]
        self._reports.warnings += tuple(left_out_warnings(train))
        validation, replay = (next(located) if source else None for source in others)
        return train, validation, replay

    def _write_prompts(self) -> Source:
        """Write the prompts of the job itself to a file, which is read like any source."""
        self._run_dir.mkdir(parents=True, exist_ok=True)
        path = self._run_dir / PROMPTS
        rows = [{"prompt": text} for text in self._data.prompts] * self._data.repeat
        # Every process writes the same content; the rename keeps others from reading half of it.
        building = path.with_name(f".{os.getpid()}-{path.name}")
        building.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        building.replace(path)
        return Source(source=str(path))

    def _tokenize(self, located: ResolvedSource, limit: int | None) -> Ingested:
        limits = [n for n in (limit, located.source.limit) if n]
        ingested = tokenize_source(
            located,
            self._rows,
            self._fingerprint,
            self._cache,
            limit=min(limits, default=None),
            workers=self._data.workers or os.cpu_count() or 1,
            on_error=self._data.on_error,
        )
        self.ingested.append(ingested)
        return ingested

    def _check_rows_left(self, train: Sequence[Ingested]) -> None:
        """Raise if every training row was dropped or skipped.

        Raises:
            DataError: No row is left.
        """
        if any(len(i.store) for i in train):
            return
        read = sum(i.stats.rows_read for i in train)
        required = min(
            (i.stats.required_length for i in train if i.stats.required_length), default=0
        )
        skipped = sum(i.stats.rows_skipped for i in train)
        if required:
            lost = (
                "do not fit"
                if self._rows.want == "prompt"
                else "lost their answer, because what comes before it fills"
            )
            raise DataError(
                f"nothing is left to learn: all {read - skipped:,} rows {lost} data.max_length "
                f"{self._data.max_length}. The shortest "
                f"needs {required} tokens: raise data.max_length to more than that, shorten the "
                "prompts, or use a tokenizer with a larger vocabulary"
            )
        reasons = {reason for i in train for reason in i.stats.reasons}
        why = "; ".join(sorted(reasons)) or f"{skipped:,} rows could not be read"
        raise DataError(f"nothing is left to learn from the {read:,} rows: {why}")

    def _open_stream(self, located: ResolvedSource) -> SourceStream:
        limits = [n for n in (self._data.limit, located.source.limit) if n]
        reader = SchemaReader(located.source, self._rows.want)
        return SourceStream(located, reader, min(limits, default=None))

    def _held_out_table(self, validation: Ingested) -> RowTable:
        """Return the held-out rows of a streamed run, which are a table all the same."""
        packed_to = self._data.max_length if self._data.packing else 0
        key = cache_key("held", validation.folder.name, packed_to)

        def build(folder: Path) -> None:
            rows = pack_in_order(all_rows(validation), packed_to)
            about = write_row_table(folder / VALIDATION, rows)
            (folder / MIXED).write_text(json.dumps(about))

        entry = self._cache.entry(key, build)
        return load_row_table(entry / VALIDATION, json.loads((entry / MIXED).read_text()))
