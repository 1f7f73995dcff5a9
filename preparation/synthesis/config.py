"""Union of the kinds of synthesis, and the job file that holds one."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from preparation.synthesis.evolve import Evolve
from preparation.synthesis.from_documents import FromDocuments
from preparation.synthesis.paraphrase import Paraphrase
from preparation.synthesis.self_instruct import SelfInstruct

AnySynthesis = Annotated[
    SelfInstruct | FromDocuments | Paraphrase | Evolve, Field(discriminator="kind")
]
"""Kinds of synthesis; a new one is added here."""
