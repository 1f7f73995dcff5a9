"""Job file of a preparation: sources, steps and split."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from preparation.config.duplicates import DuplicatesStep
from preparation.config.group_report import GroupReport
from preparation.config.source import PreparedSource
from preparation.config.split import Split
from preparation.steps.chunk import ChunkStep
from preparation.steps.decontaminate.section import DecontaminateStep
from preparation.steps.language.section import LanguageStep
from preparation.steps.normalise import NormaliseStep
from preparation.steps.personal_data.section import PersonalDataStep
from preparation.steps.quality.section import QualityStep
from preparation.steps.quality_classifier.section import QualityClassifierStep
from preparation.steps.secrets.section import SecretsStep
from preparation.steps.tokenizer_statistics import TokenizerStatisticsStep
from preparation.steps.toxicity import ToxicityStep
from preparation.synthesis.config import AnySynthesis
from training.config.base import ConfigSection
from training.config.job import Name
from training.config.types import PositiveInt

AnyStep = Annotated[
    NormaliseStep
    | LanguageStep
    | PersonalDataStep
    | SecretsStep
    | QualityStep
    | QualityClassifierStep
    | ToxicityStep
    | DuplicatesStep
    | ChunkStep
    | DecontaminateStep
    | TokenizerStatisticsStep,
    Field(discriminator="step"),
]
"""Steps of a preparation; a new one is added here."""


def _as_sources(value: Any) -> Any:
    items = value if isinstance(value, list | tuple) else [value]
    return tuple({"source": item} if isinstance(item, str) else item for item in items)


class Prepare(ConfigSection):
    """Sources, steps and output of a preparation."""

    sources: Annotated[
        tuple[PreparedSource, ...],
        BeforeValidator(
            _as_sources,
            json_schema_input_type=str | PreparedSource | tuple[str | PreparedSource, ...],
        ),
    ] = ()
    """One source or a list of them: files and folders as `data.train` names them, or objects and
    folders in S3, `s3://BUCKET/KEY`. Optional if the job has a section `synthesize`, whose rows are
    a source too."""
    steps: tuple[AnyStep, ...] = ()
    """Steps, in the order in which they run."""
    split: Split = Split()
    report: GroupReport | None = None
    output: str = "prepared"
    """Folder in which the result is written, as `NAME/DIGEST`."""
    copies: str | None = None
    """Folder of the copies of sources in S3; `.sources` in the output if not set, or in `prepared`
    if the output is in S3."""
    unit_mib: PositiveInt = 64
    """Size of the unit of work that a worker takes at a time."""
    workers: PositiveInt | None = None
    """Number of processes; one per core if not set. The result does not depend on it."""


class PreparationJob(ConfigSection):
    """One preparation, from raw files to a data set."""

    name: Name
    synthesize: AnySynthesis | None = None
    """Rows that a teacher model writes before the preparation, which is one of its sources then."""
    prepare: Prepare
