"""Write out the commands of a Markdown file: every line of its ``sh`` blocks."""

import re
import sys
from pathlib import Path

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(markdown: str) -> str:
    """Return the ``sh`` blocks of a text, one after the other."""
    return "".join(BLOCK.findall(markdown))


if __name__ == "__main__":
    sys.stdout.write(commands(Path(sys.argv[1]).read_text(encoding="utf-8")))
