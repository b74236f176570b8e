"""Stops between two steps when the user or the system asks for it."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Stopped(Exception):  # noqa: N818 (no error: somebody asked for it)
    """A signal came during something that may be left undone."""


class StopRequest:
    """Notes SIGINT and SIGTERM while it is entered, so that a loop can end after a whole step.

    The first signal is noted in `received`; a second one acts at once, as it would without this.

    Attributes:
      received: the signal, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def check(self) -> None:
        """Raises Stopped if a signal was received."""
        if self.received is not None:
            raise Stopped

    def __enter__(self) -> StopRequest:
        # Python allows handlers in the main thread only; elsewhere the caller's own hold.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        self._put_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._put_back()

    def _put_back(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
