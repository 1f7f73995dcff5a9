"""Measurement of the traffic: windows, drift, ratings, use, hard cases."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evaluation.config.scores import LlmJudge
from evaluation.models.load import default_device
from evaluation.scores.base import ScoreContext
from monitoring.call import LoggedCall
from monitoring.drift import WindowDrift, window_drift
from monitoring.errors import LogError, WatchError
from monitoring.features import Features, ReferenceInfo, load_features, save_features
from monitoring.hard_cases import HardCase, find_hard_cases, write_hard_cases
from monitoring.judged_sample import (
    JudgedSample,
    judge_windows,
    load_baseline,
    read_single_judge,
    registered_baseline,
    save_baseline,
)
from monitoring.language import language_identifier
from monitoring.logs.read import CallLog
from monitoring.measure import ServedModelMeasure
from monitoring.options import CheckedOptions, WatchOptions
from monitoring.prompt_answer import PromptAnswer, pair_of_call
from monitoring.report.document import (
    BASELINE,
    CASES,
    REFERENCE,
    Verdict,
    WatchReport,
    WindowReport,
)
from monitoring.statistics.control_chart import Baseline
from monitoring.statistics.k_of_n import alarms
from monitoring.usage import Rates, usage_by_model
from monitoring.watched_model import WatchedModel, source_pairs, training_pairs
from monitoring.windows import Window, gaps, split_windows
from preparation.masking import missing_packages
from safety.binomial import Proportion
from training.config.data import Source
from training.errors import RunError

_MOST_CASES = 200
_SEED = 0
_FEATURES_ENDING = ".npz"


@dataclass(frozen=True)
class MeasuredWindow:
    """Window with the features of a sample of its calls.

    Attributes:
        window: The window.
        sample: The sampled calls.
        features: Their features; None if the window has too few calls.
        drift: Drift of the window.
    """

    window: Window
    sample: Sequence[LoggedCall]
    features: Features | None
    drift: WindowDrift


def measure_traffic(
    options: WatchOptions,
    checked: CheckedOptions,
    served: WatchedModel,
    calls: Sequence[LoggedCall],
    log: CallLog,
    rates: Rates,
    out: Path,
) -> WatchReport:
    """Return the report on logged calls, and write the hard cases and the training set's features.

    Args:
        options: Options of the command.
        checked: Values of those that are written as text.
        served: Model that serves.
        calls: Calls that are compared.
        log: The log, of whose calls all count for latency and cost.
        rates: Price of the deployment.
        out: Folder of the report.

    Raises:
        TemperError: The model, its training set or the judge cannot be used.
    """
    # Before the model is loaded, which takes long: problems of the judge.
    judge = None if options.judge is None else read_single_judge(options.judge)
    baseline = None
    if judge is not None:
        baseline = _baseline(options, served)
    out.mkdir(parents=True, exist_ok=True)
    identify = language_identifier()
    measure = ServedModelMeasure(served.source, identify)
    training, info = _training_features(options, served, measure, out)
    windows = split_windows(calls, checked.window)
    measured = [_measured(window, measure, training, options) for window in windows]
    samples = [[pair_of_call(call) for call in one.sample] for one in measured]
    judged = None
    if judge is not None and baseline is not None:
        judged = _judged(judge, samples, baseline, options, served, log, out)
    reports = _window_reports(measured, judged, options, checked, rates, log)
    notes = [*log.notes(), *_notes(windows, reports, options, rates.logged_share)]
    if identify is None:
        notes.append('languages were left out: pip install "temper[prepare]"')
    cases = None
    if missing := missing_packages():
        notes.append(f"hard cases are not written, since they could not be masked: {missing}")
    else:
        found = _hard_cases(measured, training, judged)
        cases = write_hard_cases(out / CASES, found, _MOST_CASES)
    k, n = checked.rule
    return WatchReport(
        options.name or options.log,
        options.model_name or served.name,
        info.source,
        len(training),
        f"{k} of {n}",
        tuple(reports),
        tuple(usage_by_model(_in_time(log.calls, windows), rates, _hours(windows))),
        baseline,
        None,
        tuple(notes),
        cases,
        training.language_shares(),
    )


def _judged(
    judge: LlmJudge,
    samples: Sequence[Sequence[PromptAnswer]],
    baseline: Baseline,
    options: WatchOptions,
    served: WatchedModel,
    log: CallLog,
    out: Path,
) -> JudgedSample | None:
    """Return the ratings of a sample of each window; None, with a remark, if the judge may fail.

    Args:
        judge: The judge.
        samples: Sampled pairs of each window.
        baseline: The registered mean.
        options: Options of the command.
        served: Model that serves.
        log: The log, in whose notes a failure is remarked.
        out: Folder of the report.

    Raises:
        RunError: The judge cannot be reached, or its cost limit is reached.
    """
    save_baseline(out / BASELINE, baseline)
    cache = options.judge_cache or out / "judge-cache"
    context = ScoreContext(default_device(), out, cache, options.max_cost, served.name)
    try:
        return judge_windows(judge, samples, baseline, options.judged, context)
    except RunError as error:
        if not options.judge_is_optional:
            raise
        log.remarks.append(f"no sample was judged: {error}")
        return None


def _baseline(options: WatchOptions, served: WatchedModel) -> Baseline:
    """Return the registered mean rating, or that of a file."""
    if options.baseline_file is not None:
        return load_baseline(options.baseline_file)
    return registered_baseline(served.name, served.evaluations, options.baseline)


def _training_features(
    options: WatchOptions, served: WatchedModel, measure: ServedModelMeasure, out: Path
) -> tuple[Features, ReferenceInfo]:
    """Return the features of the training set: stored ones, or those of a sample of its rows.

    Raises:
        WatchError: They were measured by another model, or the training set has too few rows.
        DataError: A row cannot be read.
    """
    reference = options.reference
    if reference is not None and reference.suffix == _FEATURES_ENDING:
        features, info = load_features(reference)
        if None not in (info.digest, measure.digest) and info.digest != measure.digest:
            raise WatchError(
                f"{reference} was measured by {info.model} (weights {str(info.digest)[:12]}), and "
                f"{served.name} serves (weights {str(measure.digest)[:12]}). Measure the training "
                f"set again: leave --reference out, or name its rows"
            )
        return features, info
    if reference is not None:
        source, rows = str(reference), source_pairs(Source(source=str(reference)))
    else:
        source, rows = served.training_set, training_pairs(served)
    sample, total = _reservoir(rows, options.training_rows)
    if len(sample) < options.limits.fewest:
        raise WatchError(
            f"the training set {source} has {total} prompts, and a comparison needs at least "
            f"{options.limits.fewest}"
        )
    features = measure.features(sample)
    info = ReferenceInfo(served.name, measure.digest, source, total)
    save_features(out / REFERENCE, features, info)
    return features, info


def _reservoir(rows: Iterable[PromptAnswer], size: int) -> tuple[list[PromptAnswer], int]:
    """Return a random sample of pairs, each as likely as any other, and their number."""
    generator = random.Random(_SEED)
    sample: list[PromptAnswer] = []
    total = 0
    for total, row in enumerate(rows, start=1):
        if len(sample) < size:
            sample.append(row)
        elif (place := generator.randrange(total)) < size:
            sample[place] = row
    return sample, total


def _measured(
    window: Window, measure: ServedModelMeasure, training: Features, options: WatchOptions
) -> MeasuredWindow:
    answered = [call for call in window.calls if not call.failed]
    sample = sorted(answered, key=_draw)[: options.measured]
    if len(sample) < options.limits.fewest:
        return MeasuredWindow(window, sample, None, WindowDrift())
    features = measure.features([pair_of_call(call) for call in sample])
    drift = window_drift(
        training, features, options.limits, token_text=measure.token_text, seed=_SEED
    )
    return MeasuredWindow(window, sample, features, drift)


def _draw(call: LoggedCall) -> bytes:
    """Return a number by which calls are sampled: at random, and the same each time."""
    return hashlib.blake2b(f"{call.id}{call.time}{call.prompt_text}".encode()).digest()


def _window_reports(
    measured: Sequence[MeasuredWindow],
    judged: JudgedSample | None,
    options: WatchOptions,
    checked: CheckedOptions,
    rates: Rates,
    log: CallLog,
) -> list[WindowReport]:
    points = judged.points if judged is not None else [None] * len(measured)
    reports = []
    for one, point in zip(measured, points, strict=True):
        ends = [c.finish_reason for c in one.window.calls if c.finish_reason is not None]
        cut = Proportion(sum(end == "length" for end in ends), len(ends))
        reports.append(
            WindowReport(
                one.window.name,
                one.window.start.isoformat(),
                one.window.end.isoformat(),
                len(one.window.calls),
                len(one.sample) if one.features is not None else 0,
                _verdict(one),
                one.drift.features,
                cut,
                cut.interval[0] > options.most_cut,
                rating=point,
                usage=tuple(
                    usage_by_model(_in_time(log.calls, [one.window]), rates, _hours([one.window]))
                ),
                languages=one.features.language_shares() if one.features is not None else {},
            )
        )
    raised = alarms([report.flag for report in reports], *checked.rule)
    return [replace(report, alarm=alarm) for report, alarm in zip(reports, raised, strict=True)]


def _verdict(one: MeasuredWindow) -> Verdict:
    if not one.window.calls:
        return "no calls"
    if one.features is None:
        return "too few calls"
    return "drifted" if one.drift.flagged else "like the training set"


def _in_time(calls: Sequence[LoggedCall], windows: Sequence[Window]) -> list[LoggedCall]:
    """Return the calls of all models in the time of some windows."""
    start, end = windows[0].start, windows[-1].end
    return [call for call in calls if start <= call.time <= end]


def _hours(windows: Sequence[Window]) -> float:
    return max((windows[-1].end - windows[0].start).total_seconds() / 3600, 1 / 60)


def _notes(
    windows: Sequence[Window],
    reports: Sequence[WindowReport],
    options: WatchOptions,
    logged_share: float,
) -> list[str]:
    """Return what the reader should know about the windows.

    Raises:
        LogError: No window has enough calls.
    """
    notes = [
        f"no calls from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC: nothing was measured "
        f"there, and the alarm counts the windows before and after"
        for start, end in gaps(windows)
    ]
    few = sum(report.verdict == "too few calls" for report in reports)
    fewest = options.limits.fewest
    if few == sum(report.verdict != "no calls" for report in reports):
        most = max(report.calls for report in reports)
        raise LogError(
            f"no window of {options.window} has {fewest} calls, the fewest that are compared; the "
            f"largest has {most}. Choose longer windows, such as --window "
            f"{max(fewest, 100) if most < fewest else '1w'}"
            + (f", or log more than {logged_share:.0%} of the calls" if logged_share < 1 else "")
        )
    if logged_share < 1:
        notes.append(
            f"{logged_share:.0%} of the calls are logged: calls and tokens are those of this "
            f"sample, and an hour's price is divided among all calls"
        )
    if few:
        notes.append(f"{few} windows have fewer than {fewest} calls, too few to compare")
    return notes


def _hard_cases(
    measured: Sequence[MeasuredWindow], training: Features, judged: JudgedSample | None
) -> list[HardCase]:
    cases: list[HardCase] = []
    for number, one in enumerate(measured):
        if one.features is None:
            continue
        ratings: Mapping[int, float] = {}
        if judged is not None:
            ratings = {p: v for (window, p), v in judged.ratings.items() if window == number}
        scale = judged.scale if judged is not None else 1
        cases += find_hard_cases(
            one.sample, one.features, training, one.drift, one.window.name, ratings, scale
        )
    return cases
