"""Every row comes up exactly as often as it should, whoever trains and however the batch is cut."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import assume, given
from hypothesis import strategies as st

from training.trainer.sample_order import PADDING_INDEX, MicroBatchSampler, SampleOrder


@dataclass(frozen=True)
class Cut:
    """How an optimizer step is cut up."""

    world: int
    micro: int
    accumulation: int

    @property
    def batch(self) -> int:
        return self.world * self.micro * self.accumulation


CUTS = st.builds(Cut, st.integers(1, 4), st.integers(1, 5), st.integers(1, 4))


@st.composite
def orders(draw: st.DrawFn, batch: int) -> SampleOrder:
    return SampleOrder.for_run(
        draw(st.integers(1, 60)),
        global_batch_size=batch,
        epochs=draw(st.sampled_from([0.3, 1.0, 1.5, 2.0, 3.0])),
        max_steps=draw(st.none() | st.integers(1, 12)),
        seed=draw(st.integers(0, 2**32 - 1)),
        shuffle=draw(st.booleans()),
    )


def steps_of(order: SampleOrder, cut: Cut, lengths: list[int] | None) -> list[list[list[int]]]:
    """Return for each step, for each micro-batch of each process, its rows."""
    ranks = [
        list(
            MicroBatchSampler(
                order,
                rank=rank,
                world_size=cut.world,
                micro_batch_size=cut.micro,
                lengths=lengths,
            )
        )
        for rank in range(cut.world)
    ]
    assert {len(rank) for rank in ranks} == {order.max_steps * cut.accumulation}
    return [
        [
            micro
            for rank in ranks
            for micro in rank[step * cut.accumulation : (step + 1) * cut.accumulation]
        ]
        for step in range(order.max_steps)
    ]


@given(st.data(), CUTS)
def test_every_row_exactly_once_per_epoch(data: st.DataObject, cut: Cut) -> None:
    rows = data.draw(st.integers(1, 60))
    epochs = data.draw(st.integers(1, 3))
    order = SampleOrder.for_run(
        rows, global_batch_size=cut.batch, epochs=epochs, max_steps=None, seed=3, shuffle=True
    )
    lengths = data.draw(st.none() | st.lists(st.integers(1, 9), min_size=rows, max_size=rows))
    seen = [row for step in steps_of(order, cut, lengths) for micro in step for row in micro]
    counts = Counter(row for row in seen if row != PADDING_INDEX)
    assert counts == dict.fromkeys(range(rows), epochs)


@given(st.data(), CUTS, CUTS)
def test_a_step_does_not_depend_on_how_it_is_cut(data: st.DataObject, one: Cut, two: Cut) -> None:
    batch = one.batch
    assume(batch % (two.world * two.micro) == 0)
    other = Cut(two.world, two.micro, batch // (two.world * two.micro))
    order = data.draw(orders(batch))
    lengths = data.draw(
        st.none() | st.lists(st.integers(1, 9), min_size=order.num_rows, max_size=order.num_rows)
    )
    for mine, theirs in zip(
        steps_of(order, one, lengths), steps_of(order, other, None), strict=True
    ):
        assert Counter(row for micro in mine for row in micro) == Counter(
            row for micro in theirs for row in micro
        )


@given(st.data(), CUTS)
def test_filler_only_at_the_very_end(data: st.DataObject, cut: Cut) -> None:
    order = data.draw(orders(cut.batch))
    steps = steps_of(order, cut, None)
    for step in steps[:-1]:
        assert all(row != PADDING_INDEX for micro in step for row in micro)
    last = [row for micro in steps[-1] for row in micro]
    assert len(last) == cut.batch
    assert last.count(PADDING_INDEX) == order.max_steps * cut.batch - order.total_rows < cut.batch


@given(st.data(), CUTS)
def test_micro_batches_are_full_and_of_like_length(data: st.DataObject, cut: Cut) -> None:
    order = data.draw(orders(cut.batch))
    lengths = data.draw(
        st.lists(st.integers(1, 9), min_size=order.num_rows, max_size=order.num_rows)
    )
    for step in steps_of(order, cut, lengths):
        assert all(len(micro) == cut.micro for micro in step)
        if cut.accumulation * cut.world == 1:
            continue
        # The n-th micro-batches of all processes hold the n-th longest rows of the step.
        rounds = [
            [row for rank in range(cut.world) for row in step[rank * cut.accumulation + turn]]
            for turn in range(cut.accumulation)
        ]
        of = [[lengths[row] if row != PADDING_INDEX else 0 for row in rows] for rows in rounds]
        assert all(min(a) >= max(b) for a, b in pairwise(of))


@given(st.data(), CUTS, st.integers(0, 11))
def test_going_on_takes_the_steps_that_are_left(data: st.DataObject, cut: Cut, start: int) -> None:
    order = data.draw(orders(cut.batch))
    assert list(order.steps(start)) == list(order.steps())[start:]


@given(st.integers(2, 60), st.integers(0, 2**32 - 1))
def test_epochs_are_shuffled_each_by_itself(rows: int, seed: int) -> None:
    order = SampleOrder(rows, 1, rows * 3, seed)
    epochs = [order.epoch_rows(epoch).tolist() for epoch in range(3)]
    assert all(sorted(epoch) == list(range(rows)) for epoch in epochs)
    if rows > 20:
        assert len({tuple(epoch) for epoch in epochs}) == 3
        assert epochs[0] != list(range(rows))


def test_without_shuffle_rows_come_as_they_stand() -> None:
    order = SampleOrder(5, 2, 10, 0, shuffle=False)
    assert list(order.steps()) == [[0, 1], [2, 3], [4, 0], [1, 2], [3, 4]]
