"""The one base of every error that a user can meet, each kind with the exit code of the command line."""

from __future__ import annotations


class ScalesearchError(Exception):
    """An error whose message is one line for the user. `exit_code` is that of the command line."""

    exit_code = 1


class InputError(ScalesearchError, ValueError):
    """Bad input. The message names where it is (file, flag), the key, the value got, and what is allowed."""

    exit_code = 2


class StudyMismatch(ScalesearchError):
    """The stored study was made with other settings or data. The message names what differs."""

    exit_code = 3


class StorageError(ScalesearchError):
    """The storage cannot be opened or used, or holds no such study."""

    exit_code = 4
