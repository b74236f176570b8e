"""A pseudo-terminal in the place of this process's own."""

import fcntl
import os
import pty
import struct
import termios


def on_a_terminal(show, monkeypatch, *, stream="stdout", columns=80, **environment):
    """What `show` writes when standard output (or error) is a terminal of so many columns."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    try:
        with os.fdopen(theirs, "w", encoding="utf-8") as terminal, monkeypatch.context() as patch:
            patch.setattr(f"sys.{stream}", terminal)
            show()
        return everything(ours)
    finally:
        os.close(ours)


def everything(descriptor):
    """All that was written to the other end, which is closed: a read may give less."""
    pieces = []
    while True:
        try:
            piece = os.read(descriptor, 10_000)
        except OSError:  # how Linux says that nothing is left
            return b"".join(pieces).decode()
        if not piece:
            return b"".join(pieces).decode()
        pieces.append(piece)
