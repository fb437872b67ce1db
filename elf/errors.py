"""The one exception that users are meant to read."""


class ElfError(Exception):
    """A problem the user can solve: says what is wrong, where, and what to do.

    The command line prints its message as one line and exits with status 1; every other exception is a
    defect of the project and keeps its traceback.
    """
