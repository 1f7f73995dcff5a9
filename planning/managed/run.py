"""A job as a provider of managed customization runs it, or every reason why it cannot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from catalog.managed_training import BEDROCK, ManagedMethod, ManagedModel, Provider, providers
from planning.managed.changed_keys import changed_keys
from planning.managed.packed_rewards import reward_problems
from planning.managed.parameters import Specification, Value, parameter_values
from training.config import Job, Pipeline
from training.config.distill_text import DistillText
from training.config.model import STAGE
from training.config.online_rl import Grpo
from training.config.rewards import RewardSection
from training.errors import JobError, Problem

_LEFT = (
    "train.lr_scheduler",
    "train.optimizer",
    "train.weight_decay",
    "train.global_batch_size",
    "train.warmup",
    "train.seed",
    "adapter.r",
    "adapter.alpha",
    "data.max_length",
    "precision",
)
"""Keys whose value a provider chooses if it has no parameter for them; a plan names them."""
_OF_METHOD = {
    "distill_text": ("method.teacher", "data.shuffle"),
    "grpo": ("method.reward", "resources.grader"),
}
"""Keys that a method itself takes care of."""
_IN_TEACHER = ("kind", "model", "region", "max_new_tokens")


@dataclass(frozen=True)
class ManagedRun:
    """Job as a provider runs it.

    Attributes:
        provider: The provider.
        model: Model that is customized.
        method: Way of training.
        job: Run with the data, the model and the method.
        kind: Kind of its method; `distill_text` for a distillation.
        teacher: Teacher of a distillation.
        parameters: Values of the provider's parameters, by name.
        left: Keys whose value the provider chooses.
    """

    provider: Provider
    model: ManagedModel
    method: ManagedMethod
    job: Job
    kind: str
    teacher: DistillText | None = None
    parameters: Mapping[str, Value] = field(default_factory=dict)
    left: tuple[str, ...] = ()

    @property
    def format(self) -> str:
        """Format of the rows."""
        return self.model.format_of(self.kind)

    @property
    def packed_rewards(self) -> tuple[RewardSection, ...]:
        """Rewards to pack as a grader; none if the job names a grader, or needs none."""
        return _packed_rewards(self.job)


def read_managed_run(
    job: Job | Pipeline,
    provider: str,
    *,
    source: str = "",
    region: str | None = None,
    specification: Specification | None = None,
) -> ManagedRun:
    """Return a job as a provider would run it.

    Args:
        job: The job.
        provider: Name of the provider.
        source: Name of the job file, for messages.
        region: Region of the account; None to accept any.
        specification: Parameters of the model's recipe, if it was read; without it, the ranges of a
            provider that has recipes are not checked.

    Raises:
        JobError: The provider cannot run it as it is written; lists every problem.
    """
    facts = providers()[provider]
    found = _train_stage(job)
    if isinstance(found, Problem):
        raise JobError(source or job.name, [found])
    train, teacher, prefix = found
    kind = "distill_text" if teacher else train.method.kind
    model = facts.find(train.model.source)
    problems = list(_cannot(facts, train, kind, model, region))
    method = (model.methods if model else facts.methods).get(kind)
    if method is None:
        raise JobError(source or job.name, problems)
    values, unfit = parameter_values(train, method, specification, facts.title)
    problems += unfit
    # Without its specification, it is unknown which parameters a recipe has.
    known = values.used if specification is not None else (*values.used, *method.keys)
    problems += _ignored(facts, train, kind, known)
    is_public = not train.model.source.startswith(BEDROCK)
    problems += reward_problems(_packed_rewards(train), is_public=is_public)
    if teacher is not None:
        problems += _teacher_problems(facts, teacher)
    if problems:
        raise JobError(source or job.name, [_with_prefix(prefix, one) for one in problems])
    assert model is not None, "its absence is a problem"
    left = tuple(key for key in _LEFT if key not in values.used and _has(train, key))
    return ManagedRun(facts, model, method, train, kind, teacher, values.values, left)


def _packed_rewards(job: Job) -> tuple[RewardSection, ...]:
    if job.resources.grader or not isinstance(job.method, Grpo):
        return ()
    return tuple(job.method.reward)


def _train_stage(job: Job | Pipeline) -> tuple[Job, DistillText | None, str] | Problem:
    """Return the run that trains, the teacher before it, and the prefix of its keys.

    A teacher that writes rows, and a stage that learns from them, are one job of a provider.
    """
    if isinstance(job, Job):
        return job, None, ""
    stages = job.stages
    if len(stages) == 1:
        return stages[0], None, "stages.0."
    first, last = stages[0], stages[-1]
    named = [source.source for source in last.data.train]
    if (
        len(stages) == 2
        and isinstance(first.method, DistillText)
        and last.method.kind == "sft"
        and named == [f"{STAGE}{first.name}"]
    ):
        update = {"data": first.data, "resources": first.resources}
        if last.model.source == "previous":
            update["model"] = first.model
        return last.model_copy(update=update), first.method, "stages.1."
    return Problem(
        "stages",
        "a provider trains one stage, or one after a distill_text that writes its rows",
        str(len(stages)),
        "Send each stage as a job of its own",
    )


def _cannot(
    facts: Provider, job: Job, kind: str, model: ManagedModel | None, region: str | None
) -> Iterator[Problem]:
    if model is None:
        known = ", ".join(sorted(facts.models)[:40])
        yield Problem(
            "model.source",
            f"{facts.title} is not known to customize it ({facts.date})",
            job.model.source,
            f"It customizes: {known}",
        )
    elif kind not in model.methods:
        able = ", ".join(sorted(model.methods))
        yield Problem(
            "method.kind",
            f"{facts.title} does not train {model.name} by it; it has {able}",
            kind,
            _other_provider(facts.name, job, kind),
        )
    elif region is not None and model.regions and region not in model.regions:
        yield Problem(
            "model.source",
            f"is customized in {', '.join(model.regions)}, and the environment is in {region}",
            job.model.source,
            "Choose an environment in one of these Regions",
        )
    if model is None and kind not in facts.methods and kind not in _kinds(facts):
        yield Problem(
            "method.kind",
            f"{facts.title} has no such method; it has {', '.join(_kinds(facts))}",
            kind,
            _other_provider(facts.name, job, kind),
        )
    adapter = "none" if job.adapter is None else job.adapter.kind
    if adapter not in facts.adapters:
        fix = "Write adapter: {kind: lora}" if "lora" in facts.adapters else "Leave it out"
        what = "trains all weights" if adapter == "none" else "is trained"
        yield Problem(
            "adapter" if adapter == "none" else "adapter.kind",
            f"{'a job without an adapter ' if adapter == 'none' else ''}{what}, and "
            f"{facts.title} trains a LoRA adapter",
            "none" if adapter == "none" else adapter,
            fix,
        )


def _kinds(facts: Provider) -> list[str]:
    """Return the kinds of method that a provider has for any of its models."""
    return sorted({kind for model in facts.models.values() for kind in model.methods})


def _other_provider(name: str, job: Job, kind: str) -> str:
    """Return which target could train it: another provider, or one's own instances."""
    able = [
        other.name
        for other in providers().values()
        if other.name != name
        and (model := other.find(job.model.source)) is not None
        and kind in model.methods
    ]
    own = [] if job.model.source.startswith(BEDROCK) else ["sagemaker"]
    targets = [*able, *own]
    return f"Use --target {' or '.join(targets)}" if targets else "No other target trains it"


def _ignored(facts: Provider, job: Job, kind: str, keys: Iterable[str]) -> Iterator[Problem]:
    """Yield each key that the provider would ignore.

    Args:
        facts: The provider.
        job: The run.
        kind: Kind of its method.
        keys: Keys that have a parameter.
    """
    allowed = {*facts.handled, *_OF_METHOD.get(kind, ()), *keys}
    for key in changed_keys(job):
        if not any(key.path == name or key.path.startswith(f"{name}.") for name in allowed):
            yield Problem(
                key.path,
                f"cannot be set: {facts.title} chooses it, or does without",
                _text(key.value),
                _without(job),
            )
    for source in job.data.train:
        for name in ("weight", "dimensions"):
            if getattr(source, name) != type(source).model_fields[name].get_default():
                yield Problem(
                    f"data.train.{name}",
                    f"{facts.title} reads each row once per epoch",
                    _text(getattr(source, name)),
                    "Leave it out",
                )
    if job.data.validation.group_column is not None:
        yield Problem(
            "data.validation.by",
            "a split by group is made by a run on machines of your own",
            "group",
            "Name a file with the held-out rows in data.validation.source",
        )


def _teacher_problems(facts: Provider, teacher: DistillText) -> Iterator[Problem]:
    if teacher.teacher.kind != "bedrock":
        yield Problem(
            "method.teacher.kind",
            f"{facts.title} calls a teacher of its own",
            teacher.teacher.kind,
            "Write kind: bedrock with the id of a teacher, such as amazon.nova-pro-v1:0",
        )
    for key in changed_keys(teacher):
        name = key.path.removeprefix("teacher.")
        if key.path != "kind" and name not in _IN_TEACHER:
            yield Problem(
                f"method.{key.path}",
                f"cannot be set: {facts.title} calls the teacher itself",
                _text(key.value),
                "Leave it out",
            )


def _has(job: Job, key: str) -> bool:
    return not key.startswith("adapter.") or job.adapter is not None


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _with_prefix(prefix: str, problem: Problem) -> Problem:
    return Problem(f"{prefix}{problem.path}", problem.message, problem.value, problem.fix)


def _without(job: Job) -> str:
    """Return how to train with a key that a provider would ignore."""
    own = "" if job.model.source.startswith(BEDROCK) else ", or use --target sagemaker"
    return f"Leave it out{own}"
