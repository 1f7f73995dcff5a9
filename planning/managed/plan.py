"""Plan of a job for managed customization: tokens and price, no memory."""

from __future__ import annotations

from typing import TypeVar

from catalog.managed_training import BEDROCK, JUMPSTART, providers
from planning.document import Plan, Range
from planning.managed.quote import managed_quotes
from planning.managed_quote import ManagedQuote
from training.config import Job, Pipeline

_Run = TypeVar("_Run", bound=Job)


def only_managed(job: Job | Pipeline) -> bool:
    """Return whether no machine of one's own can train a job: its weights are not public."""
    first = job.stages[0] if isinstance(job, Pipeline) else job
    return first.model.source.startswith(BEDROCK)


def with_public_model(job: Job | Pipeline) -> Job | Pipeline:
    """Return a job with a model of SageMaker's hub replaced by the same on the Hugging Face Hub.

    The plan of one's own machines needs the shape of the model. A model that is unknown stays.
    """
    if isinstance(job, Pipeline):
        stages = tuple(_with_public_model(stage) for stage in job.stages)
        return job.model_copy(update={"stages": stages})
    return _with_public_model(job)


def _with_public_model(job: _Run) -> _Run:
    if not job.model.source.startswith(JUMPSTART):
        return job
    model = providers()["sagemaker-serverless"].find(job.model.source)
    if model is None or not model.huggingface:
        return job
    update = {"source": model.huggingface[0]}
    return job.model_copy(update={"model": job.model.model_copy(update=update)})


def managed_plan(job: Job | Pipeline, quotes: tuple[ManagedQuote, ...] | None = None) -> Plan:
    """Return the plan of a job that a provider trains.

    Args:
        job: The job.
        quotes: Quotes of the providers; those of the catalog if None.
    """
    offers = tuple(managed_quotes(job)) if quotes is None else quotes
    possible = [one for one in offers if not one.refused]
    cost = next((one.cost_usd for one in possible if one.cost_usd), Range(0.0, 0.0))
    reasons = tuple(f"{one.provider}: {reason}" for one in offers for reason in one.refused)
    return Plan(
        name=job.name,
        fits=bool(possible),
        memory_gib={},
        micro_batch_size=0,
        gradient_accumulation_steps=0,
        disk_gib={"total": 0.0},
        hours=Range(0.0, 0.0),
        cost_usd=cost,
        refused=() if possible else reasons,
        tokens=possible[0].tokens.high if possible else 0.0,
        managed=tuple(offers),
    )
