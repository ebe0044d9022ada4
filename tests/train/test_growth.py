"""What a long epoch needs: memory that does not grow with the samples' streams, an average that is not summed anew."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter

import pytest

pytest.importorskip("torch")

from kohyakit.train.callbacks import LossAverage
from kohyakit.train.step.rng import KohyakitOrder


class Photos:
    """So many photos in two buckets, each repeated."""

    def __init__(self, photos: int, repeats: int, batch_size: int) -> None:
        self.batch_size = batch_size
        half = photos // 3
        self.bucket_members = [
            [i for i in range(half) for _ in range(repeats)],
            [i for i in range(half, photos) for _ in range(repeats)],
        ]


def _order(photos: Photos) -> KohyakitOrder:
    order = KohyakitOrder(7)
    order.begin([photos])
    return order


def test_an_epoch_is_the_order_that_a_list_of_batches_shuffled_in_one_go_has():
    """The definition, written out: each bucket shuffled, cut into batches, all batches shuffled, one stream."""
    photos = Photos(31, 3, 4)
    stream = random.Random("7/order/2")
    batches = []
    for bucket, members in enumerate(photos.bucket_members):
        members = list(members)
        stream.shuffle(members)
        batches += [(bucket, members[start : start + 4]) for start in range(0, len(members), 4)]
    stream.shuffle(batches)
    slots = list(_order(photos).batches(2))
    assert [(slot.bucket, slot.images) for slot in slots] == batches
    assert slots[5].streams[1].random() == random.Random("7/image/2/5/1").random()
    assert Counter(i for slot in slots for i in slot.images) == {i: 3 for i in range(31)}


def test_the_memory_of_an_epochs_order_is_a_few_bytes_a_sample():
    """20,000 samples; a Random each would take 50 MB."""
    order = _order(Photos(2_000, 10, 2))
    tracemalloc.start()
    try:
        drawn = sum(len(slot.images) for slot in order.batches(1))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert drawn == 20_000
    assert peak / drawn < 40


@pytest.mark.parametrize("begun", [0, 700])
def test_the_average_is_the_mean_of_the_newest_losses(begun):
    chance = random.Random(3)
    known = [chance.random() for _ in range(begun)]
    average, newest = LossAverage(known), list(known)
    for position in [*range(begun, 1500), *(chance.randrange(1500) for _ in range(300))]:
        loss = chance.random()
        newest += [0.0] * (position + 1 - len(newest))
        newest[position] = loss
        assert average.add(position, loss) == pytest.approx(sum(newest) / len(newest), rel=1e-12)
    assert LossAverage(newest).value == average.value
