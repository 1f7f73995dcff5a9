"""Costs of a job's method: its declared step profile, with the shapes of the extra models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from planning.hf_config import NamedShape, shape_named
from planning.memory.adapters import FourBitLayout
from planning.memory.method_profile import AuxModel, MethodProfile
from planning.model_shape import ModelShape
from training.config import Job
from training.config.step_profile import ONE_ROW, ExtraModel, StepProfile, StepSpec


def step_profile(job: Job, step: StepSpec = ONE_ROW) -> StepProfile:
    """Return the profile that a job's method declares; that of `sft` if it declares none."""
    return job.method.step_profile(job, step) or StepProfile()


def method_profile(job: Job, step: StepSpec = ONE_ROW) -> MethodProfile:
    """Return the profile of a job's method with the shapes of its extra models.

    Args:
        job: The run.
        step: Size of a step on one device.

    Raises:
        JobError: The shape of a model that the method names cannot be found.
    """
    declared = step_profile(job, step)
    scorers = (model for model in declared.scorers if not _shares_backbone(job, model))
    return MethodProfile(
        head=declared.head,
        sequences=declared.sequences,
        frozen=None if declared.frozen is None else _aux_model(job, declared.frozen),
        rollout=declared.rollout,
        known=declared.known,
        divergence=declared.divergence,
        critic=declared.critic,
        scorers=tuple(replace(_shape(job, model), scores=True) for model in scorers),
        anchored=declared.anchored,
    )


def note_on(job: Job) -> str:
    """Return what a reader of the plan should know about the method; empty if nothing."""
    if not job.method.trains:
        return (
            f"method {job.method.kind} trains nothing and needs less than this, which is sft's; "
            f"what calls may cost is said, and held against max_cost, before the first"
        )
    if job.method.step_profile(job, ONE_ROW) is not None:
        return ""
    return (
        f"method {job.method.kind} declares no step profile: planned as sft, "
        f"without the models it needs next to the trained one"
    )


def row_tokens(job: Job, longest: int) -> int:
    """Return the tokens computed for the longest row, with its answer or both sides of a pair."""
    if job.method.max_new_tokens:
        return longest + job.method.max_new_tokens
    return job.data.max_length * step_profile(job).sequences


def _aux_model(job: Job, model: ExtraModel) -> AuxModel:
    # Weights that are only read are not widened for a backward pass.
    layout = FourBitLayout(True, job.precision, widens=False) if model.quantized else None
    return AuxModel(
        shape=_shape(job, model) if model.source else None,
        low=model.in_job_precision,
        four_bit=layout,
        full_distribution=model.full_distribution,
        scores=model.scores,
        same=model.same_weights,
    )


def _shape(job: Job, model: ExtraModel) -> ModelShape:
    return shape_named(NamedShape(model.source, model.revision, job.name, model.key))


def _shares_backbone(job: Job, model: ExtraModel) -> bool:
    """Return True if a reward model is one more adapter on the policy.

    `training.rewards.shared_backbone` decides the same way. The model's weights are then a row of
    the head and the adapter's own, which are too small to count.
    """
    if job.adapter is None or model.backbone == "own":
        return False
    if job.adapter.kind != "lora" and model.backbone != "shared":
        return False
    try:
        config = json.loads((Path(model.source) / "adapter_config.json").read_text())
    except (OSError, ValueError):
        return False
    if config.get("use_dora") and job.sharding.zero == 3:
        return False
    base = Path(str(config.get("base_model_name_or_path")))
    return base.resolve() == Path(job.model.source).resolve() and config.get("peft_type") == "LORA"
