"""From a job's data section to tables ready to train on, with a report of what is in them.

No collective is used: every process of a run may call `prepare`, one does the work, and the others
wait for it and map the same files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.config.data import Source
from training.config.job import Job
from training.config.methods import Sft
from training.data import ingest, mix, templates
from training.data.cache import Cache, key_of
from training.data.encoder import Encoder
from training.data.ingest import DROPPED, SKIPPED, Ingested, open_ingested
from training.data.pack import best_fit
from training.data.preview import RowPreview, preview_row, render_text
from training.data.report import DataReport, SourceReport
from training.data.sources import Located, locate
from training.data.stream import StreamTable
from training.data.table import RowTable, load_ready, token_rows, write_ready
from training.data.terms import measure
from training.data.tokenize import LossOn, RowTokenizer, TokenRow
from training.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PREVIEWED = 4
_TRAIN, _VALIDATION, _MIXED = "train.arrow", "validation.arrow", "mixed.json"
_GRAVE_SHARE = 0.2
"""Share of rows truncated or dropped from which on a person is warned."""


@dataclass(frozen=True)
class Prepared:
    """What a run trains on.

    Attributes:
        train: The rows to train on.
        validation: The rows held out; None when the job holds none out.
        report: What is in them.
    """

    train: RowTable | StreamTable
    validation: RowTable | None
    report: DataReport


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
    kitchen = _Kitchen(job, tokenizer, Cache(cache_dir, otherwise=run_dir / "cache"))
    prepared = kitchen.stream() if job.data.streaming else kitchen.mix()
    if os.environ.get("RANK", "0") == "0":
        _save(prepared.report, run_dir, kitchen.ingested)
    return prepared


def row_tokenizer(job: Job, tokenizer: PreTrainedTokenizerBase) -> RowTokenizer:
    """Return what turns the rows of a job into tokens; also writes prompts as training does.

    Raises:
        DataError: The job names a chat template that does not exist.
    """
    encoder = Encoder(tokenizer)
    loss_on: LossOn = job.method.loss_on if isinstance(job.method, Sft) else "all"
    template = templates.resolve(job.model.chat_template, tokenizer, encoder)
    return RowTokenizer(encoder, template, job.method.rows, loss_on, job.data.max_length)


def load_texts(
    source: Source,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    cache_dir: Path,
    limit: int | None = None,
) -> RowTable:
    """Return general text as rows in which every token counts, to measure a loss on.

    Args:
        source: Any source; conversations are written out as text.
        tokenizer: Of the model that is measured.
        max_length: Longest row, in tokens.
        cache_dir: As in `prepare`.
        limit: Rows to read at most.

    Raises:
        DataError: It cannot be read, or holds no text.
    """
    encoder = Encoder(tokenizer)
    template = templates.resolve(None, tokenizer, encoder)
    rows = RowTokenizer(encoder, template, "text", "all", max_length)
    cache = Cache(cache_dir, otherwise=cache_dir.parent / "cache-texts")
    located = locate(source)
    limits = [n for n in (limit, source.limit) if n]
    found = _ingest(located, rows, fingerprint(tokenizer), cache, min(limits, default=None), 1)
    if not len(found.store):
        raise DataError(f"{source.source}: there is no text in it")

    def build(folder: Path) -> None:
        every = token_rows(found.store, range(len(found.store)))
        about = write_ready(folder / _TRAIN, ([row] for row in every))
        (folder / _MIXED).write_text(json.dumps(about))

    entry = cache.entry(key_of("texts", found.folder.name), build)
    return load_ready(entry / _TRAIN, json.loads((entry / _MIXED).read_text()))


def fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a digest of everything that decides a tokenizer's ids."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
        content = backend.to_str()
    else:
        content = json.dumps(tokenizer.get_vocab(), sort_keys=True) + repr(tokenizer)
    specials = json.dumps(tokenizer.special_tokens_map, sort_keys=True, default=str)
    return hashlib.sha256(f"{type(tokenizer).__name__}{specials}{content}".encode()).hexdigest()


def _ingest(
    located: Located,
    rows: RowTokenizer,
    tokenizer: str,
    cache: Cache,
    limit: int | None,
    workers: int,
    on_error: Any = "stop",
) -> Ingested:
    template = rows.template.source if rows.template else ""
    key = key_of(
        *ingest.source_key(located, rows.want, limit),
        tokenizer, template, rows.loss_on, rows.max_length, on_error,
    )  # fmt: skip
    folder = cache.entry(
        key,
        lambda part: ingest.ingest(
            located, rows, part, on_error=on_error, limit=limit, workers=workers
        ),
    )
    return open_ingested(located.source, folder)


class _Kitchen:
    """The steps of one preparation, and what they share."""

    def __init__(self, job: Job, tokenizer: PreTrainedTokenizerBase, cache: Cache):
        self._job = job
        self._data = job.data
        self._cache = cache
        self._rows = row_tokenizer(job, tokenizer)
        self._fingerprint = fingerprint(tokenizer)
        self._warnings = [cache.moved] if cache.moved else []
        self.ingested: list[Ingested] = []
        if job.method.rows not in ("text", "dialogue"):
            raise DataError(
                f"method {job.method.kind}: {job.method.rows} rows are not prepared yet"
            )
        if self._data.prompts:
            raise DataError(
                f"data.prompts holds prompts without answers, and {job.method.kind} learns from "
                "text or answers. Give data.train"
            )

    def _take(self, source: Source, limit: int | None) -> Ingested:
        limits = [n for n in (limit, source.limit) if n]
        workers = self._data.workers or os.cpu_count() or 1
        found = _ingest(
            locate(source), self._rows, self._fingerprint, self._cache,
            min(limits, default=None), workers, self._data.on_error,
        )  # fmt: skip
        self.ingested.append(found)
        return found

    def mix(self) -> Prepared:
        data = self._data
        train = [self._take(source, data.limit) for source in data.train]
        self._something_left(train)
        source = data.validation.source
        validation = self._take(source, None) if source else None
        replay = self._take(data.replay.source, None) if data.replay else None
        key = key_of(
            "mixed", [i.folder.name for i in self.ingested], [i.source.weight for i in train],
            data.limit, data.validation.split, data.replay and data.replay.share,
            data.packing, data.shuffle, data.max_length, self._job.train.seed,
        )  # fmt: skip
        entry = self._cache.entry(
            key, lambda folder: _Mixture(self._job, train, validation, replay).write(folder)
        )
        return self._ready(entry, train, validation, replay)

    def _something_left(self, train: Sequence[Ingested]) -> None:
        if any(len(i.store) for i in train):
            return
        read = sum(i.about.rows_read for i in train)
        needed = min((i.about.needed for i in train if i.about.needed), default=0)
        skipped = sum(i.about.rows_skipped for i in train)
        if needed:
            raise DataError(
                f"nothing is left to learn: all {read - skipped:,} rows lost their answer, because "
                f"what comes before it fills data.max_length {self._data.max_length}. The shortest "
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
        about = json.loads((entry / _MIXED).read_text())
        table = load_ready(entry / _TRAIN, about["train"])
        held = load_ready(entry / _VALIDATION, about["validation"]) if about["validation"] else None
        roles = (
            ["train"] * len(train) + ["validation"] * bool(validation) + ["replay"] * bool(replay)
        )
        trained = about["trained"]
        sources = tuple(
            _source_report(found, role, trained.get(str(number), 0))
            for number, (found, role) in enumerate(zip(self.ingested, roles, strict=True))
        )
        report = self._report(table, held, about, sources)
        return Prepared(table, held, report)

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
        )
        return replace(report, warnings=(*self._warnings, *_warn(report, about)))

    def _preview(self, table: RowTable) -> tuple[RowPreview, ...]:
        previews = []
        for index in range(min(_PREVIEWED, len(table))):
            row = table[index]
            stop = row["seq_lengths"][0]
            previews.append(
                preview_row(
                    row["ids"][0], row["input_ids"][:stop], row["labels"][:stop], self._rows.encoder
                )
            )
        return tuple(previews)

    def stream(self) -> Prepared:
        raise DataError("data.streaming is not available yet: leave it out")


class _Mixture:
    """Which rows, how often, in which order, and which share a row."""

    def __init__(
        self,
        job: Job,
        train: Sequence[Ingested],
        validation: Ingested | None,
        replay: Ingested | None,
    ):
        self._data = job.data
        self._train = train
        self._validation = validation
        self._replay = replay
        self._rng = np.random.default_rng(job.train.seed)

    def write(self, folder: Path) -> None:
        """Write the tables and what the report says of them."""
        available, held = self._available()
        rows = self._weighted(available)
        replayed = self._drawn(rows)
        stores = [found.store for found in self._train]
        if self._replay is not None:
            stores.append(self._replay.store)
            rows.append(replayed)
        order = [(number, int(i)) for number, indices in enumerate(rows) for i in indices]
        if self._data.shuffle:
            order = [order[i] for i in self._rng.permutation(len(order))]
        lengths = [int(stores[number].lengths[i]) for number, i in order]
        about: dict[str, Any] = {
            "documents": len(order),
            "longest": max(lengths),
            "median": float(np.median(lengths)),
            "trained": self._trained(rows),
            "replay_rounds": self._rounds,
            "train": write_ready(folder / _TRAIN, self._grouped(order, lengths, stores)),
            "validation": self._write_held(folder, held),
        }
        (folder / _MIXED).write_text(json.dumps(about))

    def _trained(self, rows: Sequence[mix.Indices]) -> dict[str, int]:
        """Return the tokens that come up of each source, by its place among those read."""
        found = {
            str(n): int(self._train[n].store.lengths[rows[n]].sum())
            for n in range(len(self._train))
        }
        if self._replay is not None:
            place = len(self._train) + (self._validation is not None)
            found[str(place)] = int(self._replay.store.lengths[rows[-1]].sum())
        return found

    def _available(self) -> tuple[list[mix.Indices], list[mix.Indices]]:
        """Return the rows to train on and the rows held out, of each source, limits applied."""
        documents = [found.store.documents for found in self._train]
        keep = [np.arange(len(rows)) for rows in documents]
        if self._data.limit is not None:
            read = [found.about.rows_read for found in self._train]
            weights = [found.source.weight for found in self._train]
            shares = mix.allot(self._data.limit, read, weights)
            keep = [
                np.flatnonzero(rows < share) for rows, share in zip(documents, shares, strict=True)
            ]
        split = self._data.validation.split
        if not split:
            return keep, []
        kept = [rows[indices] for rows, indices in zip(documents, keep, strict=True)]
        train, held = mix.hold_out(kept, split, self._rng)
        return (
            [indices[part] for indices, part in zip(keep, train, strict=True)],
            [indices[part] for indices, part in zip(keep, held, strict=True)],
        )

    def _weighted(self, available: Sequence[mix.Indices]) -> list[mix.Indices]:
        if len(available) == 1 or self._data.limit is not None:
            return list(available)
        rows = [
            mix.weighted(indices, found.store.documents, found.source.weight, self._rng)
            for indices, found in zip(available, self._train, strict=True)
        ]
        if not any(len(indices) for indices in rows):
            raise DataError("data.train: the weights leave no row to train on. Raise them")
        return rows

    def _drawn(self, rows: Sequence[mix.Indices]) -> mix.Indices:
        self._rounds = 0
        if self._replay is None or self._data.replay is None:
            return np.zeros(0, dtype=np.int64)
        if not len(self._replay.store):
            raise DataError(f"data.replay: {self._replay.source.source} holds nothing to replay")
        share = self._data.replay.share
        own = sum(
            int(found.store.lengths[indices].sum())
            for found, indices in zip(self._train, rows, strict=True)
        )
        wanted = round(own * share / (1 - share))
        drawn, self._rounds = mix.replayed(self._replay.store.lengths, wanted, self._rng)
        return drawn

    def _grouped(
        self, order: Sequence[tuple[int, int]], lengths: Sequence[int], stores: Sequence[Any]
    ) -> Iterator[list[TokenRow]]:
        groups = [[i] for i in range(len(order))]
        if self._data.packing:
            groups = best_fit(lengths, self._data.max_length)
            if self._data.shuffle:
                groups = [groups[i] for i in self._rng.permutation(len(groups))]
            else:
                groups.sort(key=min)
        for group in groups:
            yield [next(token_rows(stores[order[i][0]], [order[i][1]])) for i in group]

    def _write_held(self, folder: Path, held: Sequence[mix.Indices]) -> dict[str, Any] | None:
        """Write the held-out rows; unpacked, so that each counts by itself."""
        if self._validation is not None:
            store = self._validation.store
            if not len(store):
                raise DataError(
                    f"data.validation: nothing is left of {self._validation.source.source} to "
                    "measure a loss on (every row is longer than data.max_length before its answer)"
                )
            rows = token_rows(store, range(len(store)))
            return write_ready(folder / _VALIDATION, ([row] for row in rows))
        if not held:
            return None
        parts = [
            token_rows(found.store, (int(i) for i in indices))
            for found, indices in zip(self._train, held, strict=True)
        ]
        return write_ready(folder / _VALIDATION, ([row] for part in parts for row in part))


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
        tokens_trained=trained,
    )


def _warn(report: DataReport, about: dict[str, Any]) -> Iterator[str]:
    kept = max(1, sum(source.rows_kept for source in report.sources))
    if report.truncated_share >= _GRAVE_SHARE:
        yield (
            f"{report.truncated_share:.0%} of the rows lost their end at data.max_length "
            f"{report.max_length}: the model does not see how those answers end"
        )
    if report.rows_dropped >= _GRAVE_SHARE * (kept + report.rows_dropped):
        yield (
            f"{report.rows_dropped:,} of {report.rows_read:,} rows were dropped because nothing in "
            f"them can be learned ({'; '.join(report.dropped_reasons)}): see dropped.jsonl"
        )
    if report.rows_skipped:
        yield f"{report.rows_skipped:,} rows could not be read and were skipped: see skipped.jsonl"
    if about["replay_rounds"] > 1:
        yield (
            f"the replayed text is shorter than the share asked for: each of its rows comes up to "
            f"{about['replay_rounds']} times"
        )
    if report.terms and (warning := report.terms.warning()):
        yield warning


def _save(report: DataReport, run_dir: Path, ingested: Sequence[Ingested]) -> None:
    run_dir.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report.to_json(), indent=1, ensure_ascii=False)
    (run_dir / "data.json").write_text(text + "\n", encoding="utf-8")
    (run_dir / "mask_preview.txt").write_text(render_text(report.mask_preview), encoding="utf-8")
    for name in (DROPPED, SKIPPED):
        with (run_dir / name).open("wb") as stream:
            for found in ingested:
                stream.write((found.folder / name).read_bytes())
