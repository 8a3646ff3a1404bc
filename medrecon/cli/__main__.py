"""``python -m medrecon.cli``: the program without its installed script."""

from medrecon.cli.app import main

main()
