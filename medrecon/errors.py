"""The errors a user can cause or meet; each is one sentence and knows its exit code."""

from __future__ import annotations


class MedreconError(ValueError):
    """Base of all known failures.

    The message is one sentence: what, where, what to do.  ``exit_code`` is what the command line
    returns for it (see docs/cli.md).
    """

    exit_code = 1


class UsageError(MedreconError):
    """A command, flag or argument that cannot be taken as given."""

    exit_code = 2


class ProtocolError(MedreconError):
    """A protocol file that is not valid: unknown key, wrong type, impossible value."""

    exit_code = 3


class UnreadableError(MedreconError):
    """An input file that cannot be read: missing, truncated, corrupt or of another format."""

    exit_code = 4


class InconsistentError(MedreconError):
    """Inputs that do not fit each other, or cannot be physical."""

    exit_code = 5


class OutputError(MedreconError):
    """An output that cannot be written: folder, permission, disk."""

    exit_code = 6


class ResourceError(MedreconError):
    """Too little memory, or a device that is not there."""

    exit_code = 7


class WeightsError(MedreconError):
    """Prior weights that are missing, damaged or not the ones their card describes."""

    exit_code = 10
