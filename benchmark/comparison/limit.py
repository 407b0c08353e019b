"""A limit of time for a comparison: it ends after whole seeds, and what still runs saves itself."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager


class OutOfTime(Exception):
    """A run was not begun, or was stopped; the message says which."""


class TimeLimit:
    """Lets runs begin, one seed of all rows after the other, while there is time.

    A seed after the first is begun only if there is as much time left as the slowest seed took (one
    that is still in progress: has taken so far). minutes: None for no limit; seeds: that of every
    run that is to be made; clock: gives seconds.
    """

    def __init__(
        self,
        minutes: float | None,
        seeds: Iterable[int],
        clock: Callable[[], float] = time.monotonic,
    ):
        self.minutes = minutes
        self._clock, self._begun = clock, clock()
        self._lock = threading.Lock()
        self._open = Counter(seeds)  # runs that are not over, by seed
        self._first: dict[int, float] = {}  # when a seed's first run began
        self._took: dict[int, float] = {}  # seconds of a seed whose runs are over

    def seconds_left(self) -> float | None:
        """Until the limit, 0 after it; None if there is none."""
        if self.minutes is None:
            return None
        return max(0.0, self._begun + 60 * self.minutes - self._clock())

    @contextmanager
    def admitted(self, seed: int) -> Iterator[None]:
        """Around a run with this seed. Raises: OutOfTime if it may not begin."""
        with self._lock:
            self._begin(seed)
        try:
            yield
        finally:
            with self._lock:
                self._open[seed] -= 1
                if not self._open[seed]:
                    self._took[seed] = self._clock() - self._first[seed]

    def _begin(self, seed: int) -> None:
        now, left = self._clock(), self.seconds_left()
        if left is not None:
            ages = {begun: self._took.get(begun, now - at) for begun, at in self._first.items()}
            needed = 0.0 if seed in self._first else max(ages.values(), default=0.0)
            if left == 0 or left < needed:
                raise OutOfTime("not begun, there is no time for it")
        self._first.setdefault(seed, now)


def note_on_choice(planned: Sequence[int], wanted: Sequence[int]) -> str | None:
    """Which seeds a call of some of them is about; None if it is about all."""
    if len(wanted) == len(planned):
        return None
    seeds = ", ".join(map(str, wanted))
    return f"{len(wanted)} of the {len(planned)} planned seeds ({seeds}): --seeds left out others."


def note_on_seeds(minutes: float, planned: Sequence[int], whole: Sequence[int]) -> str | None:
    """What the results hold instead of all that was planned; None if they hold all of it."""
    if len(whole) == len(planned):
        return None
    limit = f"the limit of {minutes:g} minutes"
    more = "The same command with more --minutes, or none, goes on."
    if not whole:
        return f"INCOMPLETE: no seed was over within {limit}; the runs that were are below. {more}"
    return (
        f"{len(whole)} of the {len(planned)} planned seeds ({', '.join(map(str, whole))}): there "
        f"was no time for the others within {limit}. {more}"
    )
