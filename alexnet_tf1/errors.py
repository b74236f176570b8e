"""The one exception a user is meant to see."""


class UserError(Exception):
    """Bad input: one line that names the file or option and the remedy.

    The command line prints it as `error: ...` and exits with status 2.
    """
