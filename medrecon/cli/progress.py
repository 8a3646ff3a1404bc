"""Progress of a reconstruction: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from medrecon.cli.words import say

if TYPE_CHECKING:
    from medrecon.reconstruct import Event

_R = TypeVar("_R")
_PLAIN_SECONDS = 10.0  # between two progress lines where there is no terminal


def follow(events: Generator[Event, None, _R], quiet: bool) -> _R:
    """Show progress until the generator returns its result."""
    with _reporter(quiet) as report:
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                result: _R = end.value
                return result
            report(event)


@contextmanager
def _reporter(quiet: bool) -> Iterator[Any]:
    if quiet:
        yield lambda event: None
    elif sys.stdout.isatty():
        with _bar() as report:
            yield report
    else:
        yield _Plain()


@contextmanager
def _bar() -> Iterator[Any]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[residual]}"),
    )
    tasks: dict[str, Any] = {}
    with Progress(*columns) as progress:

        def report(event: Event) -> None:
            if event.note:
                progress.console.print(f"{event.stage}: {event.note}", highlight=False)
                return
            if event.stage not in tasks:
                tasks[event.stage] = progress.add_task(event.stage, residual="")
            progress.update(
                tasks[event.stage],
                completed=event.step,
                total=event.steps,
                residual="" if event.residual is None else f"residual {event.residual:.1e}",
            )

        yield report


class _Plain:
    """A line at the end of every stage and every few seconds in between."""

    def __init__(self) -> None:
        self.start = self.last = time.monotonic()

    def __call__(self, event: Event) -> None:
        if event.note:
            say(f"{event.stage}: {event.note}")
            return
        now = time.monotonic()
        if event.step < event.steps and now - self.last < _PLAIN_SECONDS:
            return
        self.last = now
        residual = "" if event.residual is None else f", residual {event.residual:.1e}"
        say(f"{event.stage} {event.step}/{event.steps}, {now - self.start:.0f} s{residual}")
