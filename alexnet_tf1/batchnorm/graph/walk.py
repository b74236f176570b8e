"""The one worklist with which everything here walks through a graph."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Walks:
    """Walks through one graph, and counts those that had to stop early."""

    def __init__(self) -> None:
        self.cut = 0  # walks that met their limit; what they would still have found is unknown

    def reach(
        self, start: Iterable[T], step: Callable[[T], Iterable[T]], limit: int | None = None
    ) -> Iterator[T]:
        """Visits the start and everything that can be reached, the nearest first, each thing once.

        `step` gives what lies one step beyond a thing. It is called after the thing was yielded,
        so that a caller that has found what it looks for may stop. A walk that would have visited
        more than `limit` things is counted.
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
