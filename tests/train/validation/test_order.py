"""What a validation does to sd-scripts' order of random numbers, and what it leaves as it was."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from kohyakit.train.step.rng import KohyakitOrder, steps_before
from kohyakit.train.step.rng_sd_scripts import SdScriptsOrder
from kohyakit.train.validation.running_mean import RunningMean


def heard(batches: int, epochs: int, accumulation: int, validated: Callable[[int], bool]) -> list[int]:
    """The step that each batch's captions believe in, by playing sd-scripts' loop.

    Its loader fetches a batch ahead. What fetches tells the step to the data set behind the fetched batch, a
    validation's loader too; the loop sets the step when a batch comes.
    """
    told = set_to = step = count = 0
    seen = []
    for _ in range(epochs):
        seen.append(told)
        told = set_to
        for number in range(1, batches + 1):
            if number < batches:
                seen.append(told)
                told = set_to
            set_to = step
            step += number % accumulation == 0 or number == batches
            if validated(count):
                told = set_to
            count += 1
    return seen


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("every", [0, 1, 2, 5, 7])
@pytest.mark.parametrize("batches", [1, 2, 3, 7])
def test_a_validation_tells_the_captions_of_the_training_the_step(batches: int, every: int, accumulation: int) -> None:
    def validated(batch: int) -> bool:
        return bool(every) and (batch % every == every - 1 or batch % batches == batches - 1)

    order = SdScriptsOrder(1)
    expected = heard(batches, 6, accumulation, validated)
    seen = [order.step_seen(b, batches, accumulation, validated) for b in range(6 * batches)]
    assert seen == expected
    assert steps_before(3 * batches, batches, accumulation) == 3 * -(-batches // accumulation)


@pytest.mark.parametrize("order", [SdScriptsOrder(3), SdScriptsOrder(3, workers=2), KohyakitOrder(3)])
def test_what_is_measured_draws_the_same_each_time_and_moves_nothing(order) -> None:
    photos = SimpleNamespace(batch_size=2, bucket_members=[[0, 1, 2], [3]])
    order.begin([photos], [photos])

    def measured() -> list[object]:
        with order.aside(11) as stream:
            if isinstance(order, KohyakitOrder):
                return stream.randn((3,), torch.zeros(1)).tolist()
            slots = list(order.held_batches(epoch=2))
            images = [(slot.dataset, slot.images) for slot in slots]
            return [images, [s.streams[0].random() for s in slots], stream.randn((3,), torch.zeros(1)).tolist()]

    first = measured()
    before = (torch.get_rng_state(), str(order.state()))
    assert measured() == first
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(order.state()) == before[1]
    if isinstance(order, KohyakitOrder):
        return
    shown = sorted(image for _, images in first[0] for image in images)
    assert {number for number, _ in first[0]} == {1}
    assert len(shown) == 4
    if not order.workers:  # each of which has an order of its own, that of the epoch before in its first batch
        assert shown == [0, 1, 2, 3]


def test_sd_scripts_mean_keeps_what_later_epochs_do_not_reach() -> None:
    mean = RunningMean()
    for loss in (1.0, 2.0, 3.0, 4.0):  # two validations of two losses in the first epoch
        mean.add(len(mean.losses) % 2, loss, first_epoch=True)
    assert mean.value == 2.5
    for place, loss in enumerate((6.0, 7.0)):
        mean.add(place, loss, first_epoch=False)
    assert mean.losses == [6.0, 7.0, 3.0, 4.0]
    assert mean.value == 5.0
