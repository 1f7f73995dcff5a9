"""Pass that trains the models of steps, before the rows are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datatrove.pipeline.base import PipelineStep

from preparation.steps.step import TrainedSection


class TrainSteps(PipelineStep):
    """Pass over the sections with a model. All units then read the same model.

    Args:
        folder: datatrove's `DataFolder` of the preparation.
        sections: The sections.
    """

    name = "Train steps"
    type = "Temper"

    def __init__(self, folder: Any, sections: Sequence[TrainedSection]):
        super().__init__()
        self.folder = folder
        self.sections = sections

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Train the models.

        Args:
            data: Not used.
            rank: Not used: there is one task.
            world_size: Not used.
        """
        for section in self.sections:
            section.train(self.folder)
