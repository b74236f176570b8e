"""The one worklist with which everything here walks through a graph."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Walks:
    """Walks through one graph, and counts those that had to stop early.

    Attributes:
      cut: how many walks met their limit; what they would still have found is unknown.
    """

    def __init__(self) -> None:
        self.cut = 0

    def reach(
        self, start: Iterable[T], step: Callable[[T], Iterable[T]], limit: int | None = None
    ) -> Iterator[T]:
        """Visits everything that can be reached, the nearest first, each thing once.

        Args:
          start: where to begin; visited too.
          step: gives what lies one step beyond a thing; called after the thing was yielded, so
            a caller that has found what it looks for may stop.
          limit: most things to visit; a walk that would have gone beyond it is counted.

        Yields:
          The things, in the order in which they are reached.
        """
        queue = deque(dict.fromkeys(start))
        seen = set(queue)
        is_cut = False
        while queue:
            item = queue.popleft()
            yield item
            for found in step(item):
                if found in seen:
                    continue
                if limit is not None and len(seen) >= limit:
                    is_cut = True
                    break
                seen.add(found)
                queue.append(found)
        self.cut += is_cut
