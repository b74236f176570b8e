"""Makes folders read-only for this program, whoever runs the tests: root may write anywhere."""

import errno
import os
import tempfile


def make_read_only(monkeypatch):
    """Lets nothing be made in a named folder, as in one that is mounted read-only."""
    usual = tempfile.TemporaryFile

    def refuse(*arguments, **options):
        if "dir" in options:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(options["dir"]))
        return usual(*arguments, **options)

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
