"""sd-scripts' mean of its validations after steps, which is not that of one of them."""

from __future__ import annotations

from collections.abc import Iterable


class RunningMean:
    """In the first epoch every loss is added to a list; later ones replace those at their own places.

    So where the first epoch holds several validations, all but the first of them stay in the mean to the end.
    """

    def __init__(self, losses: Iterable[float] = ()) -> None:
        self.losses = list(losses)

    def add(self, place: int, loss: float, *, first_epoch: bool) -> None:
        if first_epoch:
            self.losses.append(loss)
            return
        self.losses += [0.0] * (place + 1 - len(self.losses))
        self.losses[place] = loss

    @property
    def value(self) -> float:
        return sum(self.losses) / len(self.losses) if self.losses else 0.0
