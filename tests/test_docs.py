"""The pages tell the truth: commands, options, exit codes, links and the README's Python."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from medrecon import cli, errors
from medrecon.protocol import METHODS, Protocol
from medrecon.training.settings import Recipe

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
COMMANDS = getattr(typer.main.get_command(cli.app), "commands")  # noqa: B009  (a group has them)


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(language, text):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_is_documented_and_has_help(command):
    assert f"`medrecon {command}" in text_of("docs/cli.md")
    assert COMMANDS[command].help


def test_every_documented_command_exists():
    for page in PAGES:
        code = "\n".join(
            blocks("sh", page.read_text("utf-8")) + blocks("console", page.read_text("utf-8"))
        )
        for command in re.findall(r"^medrecon ([a-z]+)", code, re.MULTILINE):
            assert command in COMMANDS, (page.name, command)
    for command in re.findall(r"`medrecon ([a-z]+)", text_of("docs/cli.md")):
        assert command in COMMANDS


def test_every_option_in_a_shown_command_exists():
    for page in PAGES:
        lines = "\n".join(blocks("console", page.read_text("utf-8"))).replace("\\\n", " ")
        for command, rest in re.findall(r"^medrecon ([a-z]+)(.*)$", lines, re.MULTILINE):
            group = getattr(COMMANDS[command], "commands", {}).values()
            known = {o for c in (COMMANDS[command], *group) for p in c.params for o in p.opts}
            assert set(re.findall(r"(?<=\s)--[a-z-]+", rest)) <= known, (page.name, command)


def test_every_exit_code_is_documented():
    table = dict(re.findall(r"^\| (\d+) \| (.+) \|$", text_of("docs/cli.md"), re.MULTILINE))
    codes = {e.exit_code for e in vars(errors).values() if isinstance(e, type)}
    codes |= {0, cli.EXIT_BUG, cli.EXIT_USAGE, cli.EXIT_INTERRUPTED, cli.EXIT_TERMINATED}
    assert {int(code) for code in table} == codes


def test_every_link_leads_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), (page.name, target)


def test_the_readme_says_what_it_is_for():
    assert "Research use only" in text_of("README.md")


def test_the_python_of_the_readme_runs(tmp_path):
    code = "\n".join(blocks("python", text_of("README.md")))
    assert "reconstruct" in code
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_shown_settings_exist():
    for page in PAGES:
        for key in re.findall(r"--set ([a-z_0-9.]+)=", page.read_text("utf-8")):
            model = Recipe if key.split(".")[0] in Recipe.model_fields else Protocol
            for part in key.split("."):
                if part.isdecimal():
                    continue
                candidates = [model] if isinstance(model, type) else model.__args__
                fields = {
                    name: field
                    for c in candidates
                    for name, field in getattr(c, "model_fields", {}).items()
                }
                assert part in fields, (page.name, key)
                model = fields[part].annotation
                if getattr(model, "__origin__", None) is tuple:
                    model = model.__args__[0]


def test_methods_in_the_schema_are_the_documented_kinds():
    kinds = {"parallel", "parallel3d", "fan", "cone", "helical", "vectors"}
    kinds |= {"cartesian", "non_cartesian"}
    assert set(METHODS) == kinds
    for kind in kinds:
        assert f"`{kind}`" in text_of("docs/cli.md")


def test_no_page_names_a_machine_or_a_registry():
    for page in PAGES:
        assert not re.search(r"pypi\.|/(work|tmp)/", page.read_text("utf-8")), page.name
