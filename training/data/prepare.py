"""From a job's data section to tables ready to train on, with a report of what is in them.

No collective is used: every process of a run may call `prepare`, one does the work, and the others
wait for it and map the same files.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.config.data import Source
from training.config.job import Job
from training.data.mixing.mixture import JUDGED, MIXED, TRAIN, VALIDATION, Mixture, grouped, whole
from training.data.readers.ingest import DROPPED, SKIPPED, Ingested, tokenized_source
from training.data.readers.sources import ResolvedSource, distinct, locate
from training.data.report import DataReport, SourceReport
from training.data.schema.detection import SchemaReader
from training.data.storage.cache import Cache, cache_key
from training.data.storage.stream import SourceStream, StreamSettings, StreamTable
from training.data.storage.table import RowTable, load_row_table, write_row_table
from training.data.tokenization.corpus import iter_texts, load_texts
from training.data.tokenization.domain_terms import measure
from training.data.tokenization.encoder import fingerprint
from training.data.tokenization.mask_preview import RowPreview, preview_row, render_text
from training.data.tokenization.row_tokenizer import IGNORE, RowTokenizer
from training.data.warnings import learned_whole, of_rows, one_sided
from training.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Prepared", "iter_texts", "load_texts", "prepare"]

PROMPTS = "prompts.jsonl"
_PREVIEWED = 4


@dataclass(frozen=True)
class Prepared:
    """What a run trains on.

    Attributes:
        train: The rows to train on.
        validation: The rows held out; None when the job holds none out.
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
        tokenizer: Of the model that is trained.
        cache_dir: Where tokenized data is kept for the next run of the same data.
        run_dir: The run folder.

    Raises:
        DataError: The data cannot be read, or nothing is left to learn from.
    """
    kitchen = DataPreparer(job, tokenizer, Cache(cache_dir, otherwise=run_dir / "cache"), run_dir)
    prepared = kitchen.stream(run_dir) if job.data.streaming else kitchen.mix()
    if os.environ.get("RANK", "0") == "0":
        _save(prepared.report, run_dir, kitchen.ingested)
    return prepared


class DataPreparer:
    """The steps of one preparation, and what they share."""

    def __init__(self, job: Job, tokenizer: PreTrainedTokenizerBase, cache: Cache, run_dir: Path):
        self._job = job
        self._data = job.data
        self._cache = cache
        self._run_dir = run_dir
        self._tokenizer = tokenizer
        self._rows = RowTokenizer.for_job(job, tokenizer)
        self._fingerprint = fingerprint(tokenizer)
        self._warnings = [cache.moved] if cache.moved else []
        self.ingested: list[Ingested] = []

    def _locate(self) -> tuple[list[ResolvedSource], ResolvedSource | None, ResolvedSource | None]:
        """Find the sources to train on, the one held out and the one replayed."""
        data = self._data
        sources = (self._write_prompts(),) if data.prompts else data.train
        others = (data.validation.source, data.replay.source if data.replay else None)
        found = iter(distinct([locate(s) for s in (*sources, *others) if s is not None]))
        train = [next(found) for _ in sources]
        held, replay = (next(found) if source else None for source in others)
        return train, held, replay

    def _write_prompts(self) -> Source:
        """Write the prompts of the job itself to a file, to be read like any other."""
        self._run_dir.mkdir(parents=True, exist_ok=True)
        path = self._run_dir / PROMPTS
        rows = [{"prompt": text} for text in self._data.prompts] * self._data.repeat
        # Every process writes the same, and none sees it half written.
        building = path.with_name(f".{os.getpid()}-{path.name}")
        building.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        building.replace(path)
        return Source(source=str(path))

    def _take(self, located: ResolvedSource, limit: int | None) -> Ingested:
        limits = [n for n in (limit, located.source.limit) if n]
        workers = self._data.workers or os.cpu_count() or 1
        found = tokenized_source(
            located,
            self._rows,
            self._fingerprint,
            self._cache,
            limit=min(limits, default=None),
            workers=workers,
            on_error=self._data.on_error,
        )
        self.ingested.append(found)
        return found

    def mix(self) -> Prepared:
        data = self._data
        located, held, replayed = self._locate()
        train = [self._take(source, data.limit) for source in located]
        self._something_left(train)
        validation = self._take(held, None) if held else None
        replay = self._take(replayed, None) if replayed else None
        key = cache_key(
            "mixed", [i.folder.name for i in self.ingested], [i.source.weight for i in train],
            data.limit, data.validation.split, data.replay and data.replay.share,
            data.packing, data.shuffle, data.max_length, self._job.train.seed,
            self._rows.want in JUDGED,
        )  # fmt: skip
        entry = self._cache.entry(
            key, lambda folder: Mixture(self._job, train, validation, replay).write(folder)
        )
        return self._ready(entry, train, validation, replay)

    def _something_left(self, train: Sequence[Ingested]) -> None:
        if any(len(i.store) for i in train):
            return
        read = sum(i.about.rows_read for i in train)
        needed = min((i.about.needed for i in train if i.about.needed), default=0)
        skipped = sum(i.about.rows_skipped for i in train)
        if needed:
            lost = (
                "do not fit"
                if self._rows.want == "prompt"
                else "lost their answer, because what comes before it fills"
            )
            raise DataError(
                f"nothing is left to learn: all {read - skipped:,} rows {lost} data.max_length "
                f"{self._data.max_length}. The shortest "
                f"needs {needed} tokens: raise data.max_length to more than that, shorten the "
                "prompts, or use a tokenizer with a larger vocabulary"
            )
        reasons = {reason for i in train for reason in i.about.reasons}
        why = "; ".join(sorted(reasons)) or f"{skipped:,} rows could not be read"
        raise DataError(f"nothing is left to learn from the {read:,} rows: {why}")

    def _ready(
        self,
        entry: Path,
        train: Sequence[Ingested],
        validation: Ingested | None,
        replay: Ingested | None,
    ) -> Prepared:
        about = json.loads((entry / MIXED).read_text())
        table = load_row_table(entry / TRAIN, about["train"])
        held = (
            load_row_table(entry / VALIDATION, about["validation"]) if about["validation"] else None
        )
        roles = (
            ["train"] * len(train) + ["validation"] * bool(validation) + ["replay"] * bool(replay)
        )
        trained = about["trained"]
        sources = tuple(
            _source_report(found, role, trained.get(str(number), 0))
            for number, (found, role) in enumerate(zip(self.ingested, roles, strict=True))
        )
        report = self._report(table, held, about, sources)
        return Prepared(table, held, report, self._rows)

    def _report(
        self,
        table: RowTable,
        held: RowTable | None,
        about: dict[str, Any],
        sources: tuple[SourceReport, ...],
    ) -> DataReport:
        data = self._data
        kept = sum(source.rows_kept for source in sources)
        truncated = sum(source.rows_truncated for source in sources)
        width = data.max_length if data.packing else about["train"]["longest"]
        reasons: dict[str, int] = {}
        for found in self.ingested:
            for reason, count in found.about.reasons.items():
                reasons[reason] = reasons.get(reason, 0) + count
        report = DataReport(
            sources=sources,
            rows_train=len(table),
            rows_validation=len(held) if held else 0,
            documents=about["documents"],
            tokens=table.num_tokens,
            supervised=table.num_supervised,
            max_length=data.max_length,
            longest=about["longest"],
            median=about["median"],
            truncated_share=truncated / kept if kept else 0.0,
            packed=data.packing,
            efficiency=table.num_tokens / (len(table) * width),
            dropped_reasons=reasons,
            digest=table.digest,
            template=self._rows.template.name if self._rows.template else "",
            mask_preview=self._preview(table),
            terms=measure(data.terms, self._rows.encoder),
            repeated=about["repeated"],
            leaked=about["leaked"],
        )
        sided = one_sided(table.kinds) if self._rows.want == "unpaired" else ()
        grave = of_rows(report, replay_rounds=about["replay_rounds"])
        whole = learned_whole(sources) if self._rows.want == "dialogue" else ()
        return replace(report, warnings=(*self._warnings, *grave, *sided, *whole))

    def _preview(self, table: RowTable | Sequence[dict[str, Any]]) -> tuple[RowPreview, ...]:
        previews = []
        for index in range(min(_PREVIEWED, len(table))):
            row = table[index]
            stop = 0
            for side, length in zip(self._sides, row["seq_lengths"], strict=False):
                start, stop = stop, stop + length
                ids, labels = row["input_ids"][start:stop], row["labels"][start:stop]
                name = f"{row['ids'][0]}{side}"
                previews.append(preview_row(name, ids, labels, self._rows.encoder))
        return tuple(previews)

    @property
    def _sides(self) -> tuple[str, ...]:
        """What to call the sequences of a row; of a packed one, the first is shown."""
        return (" (chosen)", " (rejected)") if self._rows.want == "preference" else ("",)

    def stream(self, run_dir: Path) -> Prepared:
        """Open a stream and read its first window, so that what is wrong shows before training."""
        data = self._data
        located, held_out, replayed = self._locate()
        taps = [self._tap(source) for source in located]
        replay = self._tap(replayed) if replayed else None
        validation = self._take(held_out, None) if held_out else None
        first = os.environ.get("RANK", "0") == "0"
        if first:
            run_dir.mkdir(parents=True, exist_ok=True)
            for name in (DROPPED, SKIPPED):
                (run_dir / name).write_bytes(b"")
        settings = StreamSettings(
            packing=data.packing,
            shuffle=data.shuffle,
            seed=self._job.train.seed,
            on_error=data.on_error,
            replay_share=data.replay.share if data.replay else 0.0,
        )
        weights = [tap.located.source.weight for tap in taps]
        notes = run_dir if first else None
        # A tokenizer of its own: windows are read in the background, and none serves two threads.
        rows = RowTokenizer.for_job(self._job, copy.deepcopy(self._tokenizer))
        table = StreamTable(taps, weights, replay, rows, settings, notes)
        window = [table[0], *table.window()[1:]]
        held = self._held(validation) if validation else None
        report = self._stream_report(table, window, taps, held)
        return Prepared(table, held, report, self._rows)

    def _tap(self, located: ResolvedSource) -> SourceStream:
        limits = [n for n in (self._data.limit, located.source.limit) if n]
        reader = SchemaReader(located.source, self._rows.want)
        return SourceStream(located, reader, min(limits, default=None))

    def _held(self, validation: Ingested) -> RowTable:
        packed_to = self._data.max_length if self._data.packing else 0
        key = cache_key("held", validation.folder.name, packed_to)

        def build(folder: Path) -> None:
            about = write_row_table(folder / VALIDATION, grouped(whole(validation), packed_to))
            (folder / MIXED).write_text(json.dumps(about))

        entry = self._cache.entry(key, build)
        return load_row_table(entry / VALIDATION, json.loads((entry / MIXED).read_text()))

    def _stream_report(
        self,
        table: StreamTable,
        window: Sequence[dict[str, Any]],
        taps: Sequence[SourceStream],
        held: RowTable | None,
    ) -> DataReport:
        """Return a report of the first window: the rest is not known yet."""
        lengths = [length for row in window for length in row["seq_lengths"]]
        tokens = sum(lengths)
        width = self._data.max_length if self._data.packing else max(lengths)
        report = DataReport(
            sources=tuple(
                SourceReport(tap.located.source.source, "train", tap.reader.shapes) for tap in taps
            ),
            rows_train=len(window),
            rows_validation=len(held) if held else 0,
            documents=len(lengths),
            tokens=tokens,
            supervised=sum(label != IGNORE for row in window for label in row["labels"]),
            max_length=self._data.max_length,
            longest=max(lengths),
            median=float(np.median(lengths)),
            truncated_share=0.0,
            packed=self._data.packing,
            efficiency=tokens / (len(window) * width),
            dropped_reasons={},
            digest=table.digest,
            template=self._rows.template.name if self._rows.template else "",
            mask_preview=self._preview(window),
            terms=measure(self._data.terms, self._rows.encoder),
            streamed=True,
        )
        warnings = [*self._warnings]
        if report.terms and (warning := report.terms.warning()):
            warnings.append(warning)
        return replace(report, warnings=tuple(warnings))


def _source_report(found: Ingested, role: str, trained: int) -> SourceReport:
    about = found.about
    return SourceReport(
        source=found.source.source,
        role=role,
        shapes=about.shapes,
        rows_read=about.rows_read,
        rows_skipped=about.rows_skipped,
        rows_dropped=about.rows_dropped,
        rows_kept=about.rows_kept,
        rows_truncated=about.rows_truncated,
        tokens=about.tokens,
        supervised=about.supervised,
        columns_unused=about.unused,
        tokens_trained=trained,
    )


def _save(report: DataReport, run_dir: Path, ingested: Sequence[Ingested]) -> None:
    run_dir.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report.to_json(), indent=1, ensure_ascii=False)
    (run_dir / "data.json").write_text(text + "\n", encoding="utf-8")
    (run_dir / "mask_preview.txt").write_text(render_text(report.mask_preview), encoding="utf-8")
    for name in (DROPPED, SKIPPED):
        with (run_dir / name).open("ab" if report.streamed else "wb") as stream:
            for found in ingested:
                stream.write((found.folder / name).read_bytes())
