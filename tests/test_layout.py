"""The house keeps its shape: who may import whom, who may print, what is packaged."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    path
    for folder in ("medrecon", "operators", "protocols")
    for path in (ROOT / folder).rglob("*.py")
    if "medrecon/operators" not in path.as_posix()  # the link: seen once, in its home
)
TRAPS = ["tigre", "bart", "mrd", "dxchange", "leap", "openrecon", "torchrun", "pytigre"]
"""Names that the package index gives to something else than imaging people would think."""

CONFINED = "medrecon/importing/restricted.py"
"""The one place that reads pickles, in a process of its own."""
ASKS_FOR_PICKLES = ("medrecon/importing/", "medrecon/cli/priors.py")
"""These hand the user's permission on to it; no reader of arrays is called there."""

# What each room may use of medrecon; rooms that are not listed stand above all of these.
MAY_IMPORT = {
    "errors": set(),
    "arrays": {"errors"},
    "units": set(),
    "grid": {"errors"},
    "geometry": {"errors", "geometry", "grid"},
    "volume": {"errors", "grid"},
    "study": {"errors", "grid", "geometry"},
    "protocol": {"protocol"},
    "yaml_loader": {"errors"},
    "setting_words": set(),
    "setting_files": {"errors", "setting_words", "yaml_loader"},
    "protocol_files": {
        *("errors", "protocol", "setting_files", "setting_words", "yaml_loader", "protocols"),
    },
    "operators": {"arrays", "errors", "grid", "geometry", "operators"},
    "preprocessing": {"arrays", "errors", "geometry", "grid", "preprocessing"},
    "raw": {"calibration", "errors", "geometry", "grid", "preprocessing", "raw", "study"},
    "anatomy": {"anatomy", "arrays", "errors"},
    "physics": {"arrays", "errors", "grid", "geometry", "physics", "study", "units"},
}
MUST_NOT_IMPORT = {
    "priors": {"operators", "solvers", "sampling", "io", "reconstruct", "cli", "importing"},
    "importing": {"operators", "solvers", "sampling", "reconstruct", "cli", "training"},
    "io": {"operators", "solvers", "priors", "sampling", "analytic", "reconstruct", "cli"},
    "solvers": {"io", "priors", "sampling", "reconstruct", "cli", "protocol"},
    "analytic": {"io", "priors", "sampling", "reconstruct", "cli"},
    "calibration": {"io", "priors", "sampling", "reconstruct", "cli"},
    "sampling": {"io", "reconstruct", "cli", "safety"},
    "safety": {"operators", "io", "problem", "protocol", "reconstruct", "samplers", "cli"},
    "write": {"operators", "solvers", "priors", "sampling", "cli"},
    "info": {"operators", "solvers", "priors", "sampling", "reconstruct", "cli"},
}


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def room_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[0] != "medrecon" else (parts[1] if len(parts) > 1 else "")


def names_imported(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def imports(path):
    return {name for node in ast.walk(tree_of(path)) for name in names_imported(node)}


def rooms_imported(path):
    own = [name.split(".") for name in imports(path) if name.startswith("medrecon.")]
    rooms = {p.name.removesuffix(".py") for p in (ROOT / "medrecon").iterdir()}
    return {parts[1] for parts in own} & (rooms | {"operators", "protocols"})


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_arrows_point_down(path):
    room, used = room_of(path), rooms_imported(path)
    if room in MAY_IMPORT:
        assert used <= MAY_IMPORT[room]
    assert not used & MUST_NOT_IMPORT.get(room, set())


def test_only_reconstruct_knows_both_an_operator_and_a_prior():
    both = {name_of(path) for path in SOURCES if {"operators", "priors"} <= rooms_imported(path)}
    # reconstruct.py normalises by the prior for the operator, samplers.py puts both into a sampler
    assert both <= {"medrecon/reconstruct.py", "medrecon/samplers.py"}


def test_nobody_imports_the_command_line():
    assert not [name_of(p) for p in SOURCES if "cli" in rooms_imported(p) - {room_of(p)}]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_only_the_command_line_prints(path):
    calls = [
        node
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    ]
    assert not calls or name_of(path) == "medrecon/cli/words.py"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_operators_have_one_name(path):
    assert not [n for n in imports(path) if n == "operators" or n.startswith("operators.")]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_the_gpl_backend_is_imported_on_demand_only(path):
    at_load = [name for node in tree_of(path).body for name in names_imported(node)]
    assert not [name for name in at_load if name.split(".")[0] == "astra"]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_is_unpickled_or_evaluated(path):
    forbidden = {"pickle", "dill", "joblib", "shelve", "marshal"}
    if name_of(path) == CONFINED:  # it needs the name of one exception
        forbidden -= {"pickle"}
    assert not {name.split(".")[0] for name in imports(path)} & forbidden
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "yaml.load", "os.system"}
            trusted = name_of(path).startswith(ASKS_FOR_PICKLES)
            assert not any(
                k.arg in ("shell", *(() if trusted else ("allow_pickle",)))
                and ast.unparse(k.value) != "False"
                for k in node.keywords
            )
            if called == "torch.load":
                assert name_of(path) == CONFINED
                given = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert given["weights_only"] == "True"


def test_the_confined_reader_is_imported_by_nobody():
    module = CONFINED.removesuffix(".py").replace("/", ".")
    assert not [name_of(path) for path in SOURCES if module in imports(path)]


def test_modules_import_each_other_in_one_direction():
    modules = {}
    for path in SOURCES:
        home = path.relative_to(ROOT).with_suffix("").parts
        parts = home if home[0] == "medrecon" else ("medrecon", *home)
        modules[".".join(parts).removesuffix(".__init__")] = path
    arrows = {
        name: {n for n in imports(path) if n in modules and n != name}
        for name, path in modules.items()
    }
    done, above = set(), []

    def walk(name):
        assert name not in above, f"circle: {' -> '.join([*above, name])}"
        if name in done:
            return
        above.append(name)
        for below in sorted(arrows[name]):
            # a package's __init__ gathers its modules: that is no circle
            if not name.startswith(f"{below}."):
                walk(below)
        above.pop()
        done.add(name)

    for name in modules:
        walk(name)


def test_every_package_is_shipped_and_every_shipped_package_is_there():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shipped = set(settings["tool"]["setuptools"]["packages"])
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in SOURCES
        if path.name == "__init__.py"
    }
    homes = settings["tool"]["setuptools"]["package-dir"]
    for name, folder in homes.items():
        found = {re.sub(rf"^{folder}(?=$|\.)", name, f) for f in found}
    assert shipped == found


def test_the_link_for_type_checkers_is_there():
    link = ROOT / "medrecon" / "operators"
    assert link.is_symlink()
    assert link.resolve() == ROOT / "operators"


def test_no_dependency_has_a_trap_name():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [settings["dependencies"], *settings["optional-dependencies"].values()]
    wanted = [name for group in groups for name in group]
    names = {re.split(r"[^A-Za-z0-9._-]", w)[0].lower() for w in wanted}
    assert not names & set(TRAPS)
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower()
    assert not {line.split("==")[0] for line in pinned.splitlines()} & set(TRAPS)


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]), ids=name_of
)
def test_no_page_tells_to_install_a_trap_name(path):
    for line in path.read_text(encoding="utf-8").lower().splitlines():
        if "pip install" in line:
            assert not set(re.findall(r"[a-z0-9._-]+", line)) & set(TRAPS), line
