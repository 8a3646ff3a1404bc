"""The verdicts of a run, read from its records."""

from __future__ import annotations

import json
from pathlib import Path


def last_lines(folder: Path) -> list[str]:
    """Return what a finished run says of its priors, one sentence for each image.

    Parameters
    ----------
    folder
        The run's output: ``run.json`` of one image, or a folder with one for each.
    """
    lines = []
    for record in sorted([*folder.glob("run.json"), *folder.glob("*/run.json")]):
        safety = json.loads(record.read_bytes()).get("safety")
        if safety:
            image = "" if record.parent == folder else f"{record.parent.name}: "
            lines.append(f"safety: {image}{safety['verdict']}")
    return lines
