"""The rooms of the package and the one-way arrows between them."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path("workflow/snapcoder")


def imports(file):
    """Modules of the package that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("snapcoder"):
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("snapcoder.")}
    return found


def name(file):
    return ".".join(["snapcoder", *file.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


MODULES = {name(file): imports(file) for file in sorted(PACKAGE.rglob("*.py"))}
GRAPH = {module: {other for other in found if other in MODULES} for module, found in MODULES.items()}

GROUND = ("study", "storage", "tables")
ANALYSIS = ("evolution", "phases", "tasks", "attribution", "features", "figures", "report")
MODEL = ("crosscoder", "capture", "snapshots", "language_model", "corpus")


def in_rooms(module, rooms):
    return any(module == f"snapcoder.{room}" or module.startswith(f"snapcoder.{room}.") for room in rooms)


def test_no_module_imports_itself_through_others():
    assert list(TopologicalSorter(GRAPH).static_order())  # raises CycleError, naming the circle, when there is one


@pytest.mark.parametrize(
    "rooms, forbidden",
    [
        (GROUND, (*ANALYSIS, *MODEL, "steps", "provenance", "runner", "cli")),
        (MODEL, (*ANALYSIS, "steps", "provenance")),
        (ANALYSIS, ("crosscoder", "snapshots", "capture", "steps", "provenance")),
        (("figures", "report"), ("language_model", "tasks", "attribution", "phases", "evolution", "features")),
        (("interop",), (*ANALYSIS, "capture", "snapshots", "language_model", "corpus", "steps", "provenance", "study")),
        ((*GROUND, *MODEL, *ANALYSIS, "provenance"), ("interop",)),
    ],
)
def test_arrows_go_one_way(rooms, forbidden):
    wrong = [
        (module, other)
        for module, found in GRAPH.items()
        if in_rooms(module, rooms)
        for other in found
        if in_rooms(other, forbidden)
    ]
    assert wrong == []


def test_only_steps_and_the_edge_know_jobs():
    users = {module for module, found in GRAPH.items() if "snapcoder.job" in found}
    assert all(in_rooms(module, ("steps", "runner", "ranks")) for module in users)


def test_every_step_is_a_function_of_its_own_name_that_takes_a_job():
    for file in (PACKAGE / "steps").glob("*.py"):
        functions = {node.name: node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}
        if file.stem != "__init__":
            assert [argument.arg for argument in functions[file.stem].args.args] == ["job"], file
