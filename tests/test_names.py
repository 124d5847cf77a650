"""No two classes or aliases share a name, no retired name comes back, no modules import each other in a circle."""

import ast
import graphlib
import re
from collections import defaultdict
from pathlib import Path

import grimp
import pytest

PACKAGE = Path(__file__).parents[1] / "harmonia_lab"

RETIRED = {
    "standing", "outlet", "crossing", "links", "limits", "turns", "presence", "routing", "pacing", "scene", "terms",
    "wording", "exchange", "surroundings", "choosing", "jobview", "mourn", "obituary", "buried", "untellable",
    "look_again", "is_at", "let_go", "said_once",
}  # fmt: skip
"""Names that said nothing to an engineer of the field; what replaced them is in docs/architecture.md."""

PUBLIC = {"limits"}
"""Allowed as a parameter: `Lab(limits=…)` is public, and limits is what they are."""


def trees():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE), ast.parse(path.read_text())


def is_alias(name, value):
    """Whether a module-level assignment names a type: `Channel = tuple[…]`, not a constant and not a TypeVar."""
    made_by_call = isinstance(value, ast.Call)
    return name.lstrip("_")[:1].isupper() and not name.isupper() and not made_by_call


def classes_and_aliases(tree):
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if isinstance(target, ast.Name) and is_alias(target.id, node.value):
                yield target.id


def snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_")


def test_no_class_and_no_alias_is_defined_twice():
    places = defaultdict(list)
    for path, tree in trees():
        for name in classes_and_aliases(tree):
            places[name].append(str(path))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_retired_name_is_left():
    found = []
    for path, tree in trees():
        found += [(str(path), part) for part in path.with_suffix("").parts if snake(part) in RETIRED]
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and snake(node.name) in RETIRED:
                found.append((str(path), node.name))
            elif isinstance(node, ast.arg) and snake(node.arg) in RETIRED - PUBLIC:
                found.append((str(path), node.arg))
            elif (
                isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and snake(node.attr) in RETIRED - PUBLIC
            ):
                found.append((str(path), node.attr))
    assert found == []


@pytest.fixture(scope="module")
def imports():
    """module → modules that it imports, those for type checkers alone included."""
    graph = grimp.build_graph("harmonia_lab", exclude_type_checking_imports=False, cache_dir=None)
    return {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}


def test_no_modules_import_each_other_in_a_circle(imports):
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle


def test_no_module_of_the_package_imports_its_front_door(imports):
    assert [name for name, imported in imports.items() if "harmonia_lab" in imported] == []


def test_no_folder_holds_more_than_a_quarter_of_the_code():
    lines = {path: sum(1 for line in (PACKAGE / path).read_text().splitlines() if line.strip()) for path, _ in trees()}
    folders = defaultdict(int)
    for path, count in lines.items():
        if len(path.parts) > 1:
            folders[path.parts[0]] += count
    assert max(folders.values()) <= sum(lines.values()) / 4
