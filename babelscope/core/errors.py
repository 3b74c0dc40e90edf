"""The errors that a user is meant to read.

A command turns `InputError` into one line on stderr and exit code 2; anything else is a bug and
keeps its traceback. The message quotes the user's value and says what to do next.
"""

from __future__ import annotations


class InputError(ValueError):
    """What the user gave cannot be used; nothing was computed or changed because of it."""
