"""The command line: every command is a thin shell over one Python call.

This is the only room that prints.
"""

from medrecon.cli.app import (
    EXIT_BUG,
    EXIT_INTERRUPTED,
    EXIT_TERMINATED,
    EXIT_USAGE,
    app,
    invoke,
    main,
)

__all__ = [
    "EXIT_BUG",
    "EXIT_INTERRUPTED",
    "EXIT_TERMINATED",
    "EXIT_USAGE",
    "app",
    "invoke",
    "main",
]
