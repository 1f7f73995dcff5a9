"""Static shapes: the few lengths that every batch of a run is padded to.

A graph that is compiled for one shape is compiled again for another. TorchNeuron has no dynamic
shapes (https://awsdocs-neuron.readthedocs-hosted.com/en/latest/torch/compile/
reference-torch-compile.html), and a compilation takes minutes. So on Trainium, and elsewhere if
`train.static_shapes` asks for it, the shapes of a step do not depend on its rows:

- rows are padded to one of `lengths` (packed rows to one length);
- every position passes through the head, and unsupervised ones are masked afterwards;
- packed documents are separated by a mask of [batch, 1, length, length];
- an incomplete batch has as many sequences as a complete one.
"""

from __future__ import annotations

from dataclasses import dataclass

from training.config.device_kind import device_kind
from training.config.job import Job

MULTIPLE = 128
"""Lengths are multiples of this, as TRL pads on Neuron (`pad_to_multiple_of`)."""


@dataclass(frozen=True)
class StaticShapes:
    """Lengths of the batches of a run.

    Attributes:
        lengths: Tokens per sequence, ascending; the last one has room for every row.
    """

    lengths: tuple[int, ...]

    def pad_to(self, longest: int) -> int:
        """Return the length of a batch whose longest sequence has `longest` tokens.

        Raises:
            ValueError: A sequence is longer than the longest of the lengths.
        """
        for length in self.lengths:
            if longest <= length:
                return length
        raise ValueError(f"a sequence of {longest} tokens does not fit static shapes {self}")


def static_shapes(job: Job, device_type: str) -> StaticShapes | None:
    """Return the shapes of a run's batches; None if they may follow the rows.

    Args:
        job: The run.
        device_type: `cpu`, `cuda` or `neuron`. A rehearsal of a job for Trainium is on a CPU.
    """
    wanted = job.train.static_shapes
    if wanted is None:
        wanted = "neuron" in (device_type, device_kind((job,)))
    if not wanted:
        return None
    longest = job.data.max_length
    # Two lengths at most: short rows are not padded to the longest one, and no more is compiled.
    lengths = (longest,) if job.data.packing else (-(-longest // 2), longest)
    return StaticShapes(tuple(sorted({-(-size // MULTIPLE) * MULTIPLE for size in lengths})))
