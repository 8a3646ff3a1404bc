"""All images of a file: reconstructed and written one by one, each in a folder of its own."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path

from medrecon.protocol import Protocol
from medrecon.reconstruct import Event, Events, Result, reconstruct_all
from medrecon.study import Study
from medrecon.write import write_result


def run_images(
    studies: Mapping[int, Study], protocol: Protocol, folder: Path, *, seed: int, device: str
) -> Generator[Event, None, list[str]]:
    """Reconstruct and write every image.

    Parameters
    ----------
    studies
        Number in the file, from 0, to image, as :func:`medrecon.measurements.choose` gives them.
    protocol
        What to do.
    folder
        An existing folder. One image is written into it, of several each into
        ``folder/<label>``.
    seed, device
        As for :func:`medrecon.reconstruct.reconstruct`.

    Returns
    -------
    list of str
        What was written, relative to ``folder``.
    """
    written: list[str] = []
    everything = reconstruct_all(list(studies.values()), protocol, seed=seed, device=device)
    for (number, study), events in zip(studies.items(), everything, strict=True):
        home = folder
        if len(studies) > 1:
            home = folder / (study.label or f"image-{number + 1}")
            home.mkdir()
        result = yield from (events if home == folder else _named(events, home.name))
        files = write_result(result, study, protocol, home, seed=seed, number=number)
        written += files if home == folder else [f"{home.name}/"]
    return written


def _named(events: Events, label: str) -> Events:
    """Put the image's label in front of every stage."""
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            result: Result = end.value
            return result
        yield replace(event, stage=f"{label} {event.stage}")
