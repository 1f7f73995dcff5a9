"""Price and time of a job on each provider of managed customization, or why it cannot run there."""

from __future__ import annotations

from collections.abc import Iterator

from catalog.managed_training import Provider, is_managed_name, providers
from catalog.prices import price
from planning.dataset_stats import DatasetStats, read_rows
from planning.managed.run import ManagedRun, read_managed_run
from planning.managed_quote import ManagedQuote
from planning.ranges import Range
from training.config import Job, Pipeline
from training.errors import JobError, TemperError

_VOCABULARY = 128_000
"""Size of the vocabulary that is assumed of a model whose tokenizer is not published."""
_DAY_S = 86400
_FEWER, _MORE = 4 / 6, 4 / 3
"""Bounds of the tokens of a text, relative to one per four characters. Bedrock's user guide
counts six characters to a token; other alphabets need more tokens."""


def managed_quotes(job: Job | Pipeline) -> Iterator[ManagedQuote]:
    """Yield a quote for each provider that has the model of a job.

    None is yielded for a job whose model no provider is known to have.
    """
    for provider in providers().values():
        if _mentions(provider, job):
            yield quote_for(job, provider)


def _mentions(provider: Provider, job: Job | Pipeline) -> bool:
    sources = [run.model.source for run in (job.stages if isinstance(job, Pipeline) else (job,))]
    return any(provider.find(source) is not None or is_managed_name(source) for source in sources)


def quote_for(job: Job | Pipeline, provider: Provider) -> ManagedQuote:
    """Return the price of a job on a provider, or why it cannot run there."""
    try:
        run = read_managed_run(job, provider.name)
        stats = read_rows(run.job, _VOCABULARY)
    except JobError as error:
        reasons = tuple(map(str, error.problems))
        return ManagedQuote(provider.name, provider.title, refused=reasons)
    except TemperError as error:
        return ManagedQuote(provider.name, provider.title, refused=(str(error),))
    return price_run(run, tokens_of(run, stats))


def tokens_of(run: ManagedRun, stats: DatasetStats) -> Range:
    """Return the tokens that a provider bills: those of every epoch."""
    tokens = stats.train * stats.tokens * _epochs(run)
    measured = not any("are assumed" in note for note in stats.notes)
    return Range(tokens, tokens) if measured else Range(tokens * _FEWER, tokens * _MORE)


def tokens_of_text(run: ManagedRun, characters: int) -> Range:
    """Return the tokens that a provider bills for texts of a length."""
    tokens = characters / 4 * _epochs(run)
    return Range(tokens * _FEWER, tokens * _MORE)


def _epochs(run: ManagedRun) -> float:
    return run.job.train.num_train_epochs


def price_run(
    run: ManagedRun, tokens: Range, *, max_runtime_s: int = _DAY_S, region: str | None = None
) -> ManagedQuote:
    """Return the price of a run of so many tokens.

    Args:
        run: The job as the provider runs it.
        tokens: Tokens of every epoch.
        max_runtime_s: Time after which the service ends a job that sets no `max_runtime`.
        region: Region of the account; None for that of the price table.
    """
    if run.provider.billing == "instances":
        return _price_instances(run, tokens, max_runtime_s, region)
    usd = run.model.usd_per_1k_tokens
    cost = None if usd is None else Range(tokens.low / 1000 * usd, tokens.high / 1000 * usd)
    source = run.model.price_source if usd is not None else "its price per token is not known"
    if run.kind in ("grpo", "distill_text"):
        # Billed by the hour, or with the teacher's answers, whose number is not known before.
        cost = None
        source = (
            "reinforcement fine-tuning is billed by the hour, and its price is not known"
            if run.kind == "grpo"
            else "the tokens of the teacher are billed too, at its on-demand price"
        )
    return _quote(run, tokens, cost, source)


def _price_instances(
    run: ManagedRun, tokens: Range, max_runtime_s: int, region: str | None
) -> ManagedQuote:
    """Return the most that the instances of a run can cost: until the service ends the job."""
    resources = run.job.resources
    known = price(resources.instance, region) if resources.instance else None
    hours = float(resources.max_runtime or max_runtime_s) / 3600
    cost, text = None, "the instances are billed by the second"
    if resources.instance is None:
        text += "; the price depends on resources.instance"
    elif known is None:
        text += f"; the price of {resources.instance} is not known"
    else:
        cost = Range(0.0, known.on_demand_usd * resources.count * hours)
        text += (
            f" for {hours:g} h at most (resources.max_runtime): {resources.count} x "
            f"{resources.instance} at {known.on_demand_usd:.2f} USD per hour, {known.source}, "
            f"{known.date}"
        )
    return _quote(run, tokens, cost, text, max_hours=hours)


def _quote(
    run: ManagedRun,
    tokens: Range,
    cost: Range | None,
    source: str,
    *,
    max_hours: float | None = None,
) -> ManagedQuote:
    return ManagedQuote(
        provider=run.provider.name,
        title=run.provider.title,
        model=run.model.name,
        technique=run.method.technique,
        tokens=tokens,
        cost_usd=cost,
        price=source,
        left=run.left,
        billing=run.provider.billing,
        max_hours=max_hours,
    )
