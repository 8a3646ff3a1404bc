"""The command priors: what there is, what a card says, and priors of other projects made ours."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from medrecon.cli.options import JsonOption
from medrecon.cli.words import say, show

app = typer.Typer(help="List the trained priors that come with medrecon, show one, or import one.")


@app.callback(invoke_without_command=True)
def priors(context: typer.Context) -> None:
    """List the trained priors that come with medrecon, show one, or import one."""
    if context.invoked_subcommand is not None:
        return

    from medrecon.priors.weights import shipped_priors

    for card in shipped_priors():
        say(f"{card.name}  {card.title}; {card.modality}, {card.licence}")


@app.command("show")
def show_prior(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A shipped prior or a folder.")],
    as_json: JsonOption = False,
) -> None:
    """Show the card of a prior: what it was trained on and how well it denoises."""
    from medrecon.priors.card import read_card
    from medrecon.priors.weights import prior_folder

    card = read_card(prior_folder(name))
    if as_json:
        say(json.dumps(card.model_dump(mode="json"), indent=2, allow_nan=False))
        return
    facts = card.model_dump(mode="json", exclude={"validation", "validation_ood"})
    show({key: _in_words(value) for key, value in facts.items() if value not in (None, {}, [])})
    levels = [("validation", card.validation), *card.validation_ood.items()]
    for title, table in levels:
        pairs = ", ".join(f"{level.psnr_db:.1f} dB at {level.sigma:g}" for level in table)
        say(f"{title}: {pairs}")


def _in_words(value: Any) -> Any:
    """Write ranges and lists of sources for people; blocks stay blocks."""
    if isinstance(value, dict):
        return {key: _in_words(item) for key, item in value.items() if item is not None}
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return "; ".join(f"{item['name']} ({item['licence']})" for item in value)
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], float):
        return f"{value[0]:g} to {value[1]:g}"
    return value
