"""Run of a synthesis: estimate, requests, filter, rows and card."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from preparation.rows import PreparedRow
from preparation.synthesis.card import card, facts
from preparation.synthesis.cost import SynthesisCost, estimate
from preparation.synthesis.drafts import Collection, Draft
from preparation.synthesis.journal import RequestJournal
from preparation.synthesis.models import LIMIT_KEY, JournaledModel, build_model, model_name
from preparation.synthesis.rating import RatingFilter
from preparation.synthesis.section import SynthesisSection
from training.errors import DataError, JobError, RunError
from training.judges.cost_ledger import SPENT
from training.run_folder import write_whole

JOURNAL, FACTS, CARD = "journal.jsonl", "synthesis.json", "README.md"
ROWS = "data/rows.jsonl"


def synthesize(
    section: SynthesisSection, folder: Path, say: Callable[[str], None] = lambda line: None
) -> Path:
    """Write the rows of a synthesis into a folder, resuming one that was stopped.

    The rows are in `data/rows.jsonl`, the facts in `synthesis.json` and the card in `README.md`.
    Every answered request is in `journal.jsonl`; the same command requests none of them again.

    Args:
        section: Section of the job.
        folder: Folder of the result.
        say: Prints a line of progress.

    Returns:
        Path of the rows.

    Raises:
        JobError: The section has problems.
        DataError: A source cannot be read, or no draft was accepted.
        RunError: A model cannot be reached, the cost could exceed the limit, or another process
            writes this folder.
    """
    if problems := list(section.problems()):
        raise JobError("synthesize", problems)
    expected = estimate(section)
    for line in expected.lines():
        say(line)
    _check_limit(section, expected)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        journal = RequestJournal(folder / JOURNAL)
        try:
            collected, rating = _collect(section, folder, journal, say)
            return _write(section, folder, collected, rating, journal, say)
        finally:
            journal.close()


def _check_limit(section: SynthesisSection, expected: SynthesisCost) -> None:
    """Check the estimate against the limit.

    Raises:
        RunError: The estimate exceeds it.
    """
    limit = section.max_cost_usd
    if limit is not None and expected.usd > limit:
        raise RunError(
            f"{section.rows:,} rows could cost {expected.usd:.4f} USD, and {LIMIT_KEY} is "
            f"{limit:g} USD. Raise it, lower rows or teacher.max_new_tokens, or use a cheaper model"
        )


def _collect(
    section: SynthesisSection,
    folder: Path,
    journal: RequestJournal,
    say: Callable[[str], None],
) -> tuple[Collection, RatingFilter | None]:
    collected = Collection(section.rows)
    teacher = _model(section, 0, folder, journal)
    rating = None
    if section.filter is not None:
        rating = RatingFilter(section.filter, _model(section, 1, folder, journal))
    for drafts in section.drafts(teacher.generate_replies, collected):
        accepted = drafts if rating is None else rating.accepted(drafts, collected)
        surplus = len(accepted) - collected.missing
        collected.drafts += accepted[: collected.missing]
        collected.rejected.update({"more_than_rows": surplus} if surplus > 0 else {})
        say(
            f"{len(collected.drafts):,} of {section.rows:,} rows, "
            f"{collected.rejected.total():,} rejected, {len(journal):,} requests answered"
        )
    return collected, rating


def _model(
    section: SynthesisSection, index: int, folder: Path, journal: RequestJournal
) -> JournaledModel:
    cache = Path(os.environ.get("TEMPER_CACHE") or Path.home() / ".cache/temper")
    role = ("teacher", "judge")[index]
    model = section.models[index][1]
    return build_model(
        model, role, journal, folder=folder, cache=cache, max_cost_usd=section.max_cost_usd
    )


def _write(
    section: SynthesisSection,
    folder: Path,
    collected: Collection,
    rating: RatingFilter | None,
    journal: RequestJournal,
    say: Callable[[str], None],
) -> Path:
    """Write the rows, the facts and the card, and return the path of the rows.

    Raises:
        DataError: No draft was accepted.
    """
    spent = json.loads((folder / SPENT).read_text()) if (folder / SPENT).exists() else {}
    spent.pop("reserved_usd", None)
    known = facts(section, collected, rating, journal, spent)
    write_whole(folder / FACTS, json.dumps(known, indent=1, ensure_ascii=False) + "\n")
    if not collected.drafts:
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in collected.rejected.most_common())
        raise DataError(
            f"no row was accepted ({reasons or 'nothing was written'}). The replies are in "
            f"{folder / JOURNAL}; use another teacher, other sources or a lower filter.threshold"
        )
    path = folder / ROWS
    path.parent.mkdir(exist_ok=True)
    rows = [prepared_row(section, draft) for draft in collected.drafts]
    lines = [json.dumps(written_row(row), ensure_ascii=False) for row in rows]
    write_whole(path, "\n".join(lines) + "\n")
    write_whole(folder / CARD, card(known))
    if collected.missing:
        say(f"{collected.missing:,} rows are missing: the sources gave no more drafts")
    say(f"{path}: {len(rows):,} rows")
    return path


def prepared_row(section: SynthesisSection, draft: Draft) -> PreparedRow:
    """Return the row of a draft, tagged with the model that wrote it."""
    columns: dict[str, Any] = {"prompt": draft.prompt, "completion": draft.answer}
    if section.writes == "messages":
        turns = (("user", draft.prompt), ("assistant", draft.answer))
        columns = {"messages": [{"role": role, "content": text} for role, text in turns]}
    tags = {"synthesized_by": model_name(section.teacher), **draft.tags}
    return PreparedRow(draft.id, "synthesize", section.writes, columns, draft.group, tags)


def written_row(row: PreparedRow) -> dict[str, Any]:
    """Return a row as a line of the file; `group` keeps related rows together in a split."""
    return {"id": row.id, **row.columns, "group": row.group, **row.tags}


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on the folder, which the kernel releases if the process dies.

    Raises:
        RunError: Another process holds it.
    """
    handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise RunError(f"{folder}: another process writes this synthesis; wait for it") from None
    finally:
        with suppress(OSError):
            os.close(handle)
