"""Passes of a preparation, in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from preparation.config.duplicates import DuplicatesStep
from preparation.config.load import step_index
from preparation.examples import ExampleTexts
from preparation.plan import PreparationPlan
from preparation.steps.step import TrainedSection

_BUFFERED_RECORDS = 1_000
"""Signatures read at a time from each file; datatrove's default of 5 reads a few bytes."""


def passes(planned: PreparationPlan, folder: Any) -> Iterator[tuple[str, Sequence[Any], int]]:
    """Yield the passes: name, pipeline of datatrove's steps, and number of tasks.

    Args:
        planned: The preparation.
        folder: datatrove's `DataFolder` in which it is built.
    """
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster

    from preparation.duplicates.candidates import CollectCandidates, verifying_tasks
    from preparation.duplicates.groups import JoinGroups
    from preparation.duplicates.signatures import CLUSTERS, CONFIG, PAIRS, SIGNATURES, RowSignatures
    from preparation.duplicates.verification import VerifyDuplicates
    from preparation.passes.examine_rows import ExamineRows
    from preparation.passes.train_steps import TrainSteps
    from preparation.passes.write_shards import WriteShards

    settings, units = planned.job.prepare, len(planned.units)
    at = step_index(planned.job)
    before = [step for step in settings.steps[:at] if not isinstance(step, DuplicatesStep)]
    after = [step for step in settings.steps[at:] if not isinstance(step, DuplicatesStep)]
    duplicates = next((s for s in settings.steps if isinstance(s, DuplicatesStep)), None)
    examples = ExampleTexts(settings.steps)
    by = settings.report.by if settings.report else ()
    examine = ExamineRows(
        folder, planned.units, settings.sources, planned.labels, before, examples, by
    )

    trained = [step for step in settings.steps if isinstance(step, TrainedSection)]
    if trained:
        yield "train", [TrainSteps(folder, trained)], 1

    def inside(path: str) -> tuple[str, Any]:
        return (f"{folder.path}/{path}", folder.fs)

    if duplicates is None:
        yield "examine", [examine], units
    else:
        yield "examine", [examine, RowSignatures(inside(SIGNATURES))], units
        buckets = MinhashDedupBuckets(
            inside(SIGNATURES), inside(PAIRS), config=CONFIG, lines_to_buffer=1000
        )
        yield "pairs", [buckets], CONFIG.num_buckets
        clusters = MinhashDedupCluster(
            inside(PAIRS),
            inside(CLUSTERS),
            config=CONFIG,
            save_cluster_id=True,
            lines_to_buffer=1000,
        )
        yield "clusters", [clusters], 1
        tasks = verifying_tasks(units)
        yield "candidates", [CollectCandidates(folder, tasks)], units
        yield "verify", [VerifyDuplicates(folder, units, duplicates.similarity)], tasks
        yield "groups", [JoinGroups(folder, tasks)], 1
    yield "write", [WriteShards(folder, duplicates, after, settings.split, examples, by)], units
