"""The program: its commands, and what becomes of an error.

Nothing heavy is imported until a command needs it, so ``medrecon --help`` stays quick; therefore
the imports inside the commands.
"""

from __future__ import annotations

import signal
import sys
import traceback
import warnings
from typing import Annotated

import typer

import medrecon
from medrecon.cli.benchmark import benchmark
from medrecon.cli.convert import convert
from medrecon.cli.look import compare, doctor, info, protocols
from medrecon.cli.priors import app as _priors
from medrecon.cli.scans import run, simulate, validate
from medrecon.cli.showing import demo
from medrecon.cli.training import train
from medrecon.cli.words import fail, say, show_warning, usage
from medrecon.errors import MedreconError, ResourceError

EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

app = typer.Typer(
    name="medrecon",
    help="Medical volumes from what the scanner really measured. Research use, not for diagnosis.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    run,
    simulate,
    validate,
    convert,
    info,
    protocols,
    compare,
    train,
    demo,
    benchmark,
    doctor,
):
    app.command()(_command)
app.add_typer(_priors, name="priors")


def _version(show: bool) -> None:
    if show:
        say(f"medrecon {medrecon.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Medical volumes from what the scanner really measured. Research use, not for diagnosis."""


def main() -> None:
    """Entry point of the ``medrecon`` program."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    sys.exit(invoke(sys.argv[1:]))


def invoke(arguments: list[str]) -> int:
    """Run one command line and return its exit code; a known failure is one line on stderr."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", category=UserWarning, module=r"medrecon\b")
        warnings.showwarning = show_warning
        try:
            code = app(args=arguments or ["--help"], prog_name="medrecon", standalone_mode=False)
        except MedreconError as error:
            return fail(str(error), error.exit_code)
        except typer.TyperException as error:
            return fail(usage(error), EXIT_USAGE)
        except (KeyboardInterrupt, typer.Abort):
            return fail("interrupted, nothing was written.", EXIT_INTERRUPTED)
        except Exception as error:
            return _unexpected(error)
    if code == EXIT_INTERRUPTED:
        return fail("interrupted, nothing was written.", EXIT_INTERRUPTED)
    return code if isinstance(code, int) else 0


def _unexpected(error: Exception) -> int:
    text = str(error)
    if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text:
        return fail(
            "not enough memory; use a smaller prior.batch or grid.", ResourceError.exit_code
        )
    if isinstance(error, MemoryError):
        return fail("not enough memory; use a smaller grid.", ResourceError.exit_code)
    traceback.print_exc()
    return fail(f"internal error, please report it: {type(error).__name__}: {text}", EXIT_BUG)
