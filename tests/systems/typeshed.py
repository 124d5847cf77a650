"""What of the standard library a system lacks, as typeshed's stubs say it: `python -m tests.systems.typeshed`.

Owns `missing.json`. Read are the guards of a module's own level (`if sys.platform == "win32":`), from the typeshed that
mypy brings; what a class lacks is left to mypy, which reads the same stubs. A module none of whose names a system has
can't be imported there.
"""

import ast
import json
from importlib.metadata import version
from pathlib import Path

SYSTEMS = ("darwin", "win32")
LIST = Path(__file__).with_name("missing.json")
PYTHON = (3, 11)


def names(body, platform):
    """The names that the statements of a stub define on a system."""
    found = set()
    for node in body:
        if isinstance(node, ast.If):
            found |= names(node.body if holds(node.test, platform) else node.orelse, platform)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {each.id for each in node.targets if isinstance(each, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.ImportFrom):  # `from x import y as y` is y's re-export
            found |= {each.asname for each in node.names if each.asname}
    return {name for name in found if not name.startswith("_")}


def holds(test, platform):
    """Whether a guard is true: of the system and of Python's version, as type checkers understand them."""
    match test:
        case ast.BoolOp(op=ast.And(), values=values):
            return all(holds(each, platform) for each in values)
        case ast.BoolOp(op=ast.Or(), values=values):
            return any(holds(each, platform) for each in values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not holds(operand, platform)
        case ast.Compare(left=left, ops=[operator], comparators=[right]):
            value = {"sys.platform": platform, "sys.version_info": PYTHON}[ast.unparse(left)]
            return compare(operator, value, ast.literal_eval(right))
    return True  # TYPE_CHECKING


def compare(operator, value, other):
    match operator:
        case ast.Eq():
            return value == other
        case ast.NotEq():
            return value != other
        case ast.GtE():
            return value >= other
        case ast.Lt():
            return value < other
    raise AssertionError(ast.dump(operator))


def stubs():
    """Yield (module, statements) of the standard library's stubs that have guards."""
    import mypy

    folder = Path(mypy.__file__).parent / "typeshed" / "stdlib"
    for path in sorted(folder.rglob("*.pyi")):
        parts = path.relative_to(folder).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        if "sys.platform" in text and not any(part.startswith("_") for part in parts if part != "__init__"):
            yield module, ast.parse(text).body


def missing():
    """{system: {"modules": [], "names": {module: []}}}"""
    found = {system: {"modules": [], "names": {}} for system in SYSTEMS}
    for module, body in stubs():
        here = names(body, "linux")
        for system in SYSTEMS:
            lacking = here - names(body, system)
            if here and lacking == here:
                found[system]["modules"].append(module)
            elif lacking:
                found[system]["names"][module] = sorted(lacking)
    return found


def write(found):
    """A line for each module, so that a change can be read."""
    source = f"typeshed's stubs in mypy {version('mypy')}, by python -m tests.systems.typeshed"
    parts = [f'"source": {json.dumps(source)}']
    for system, lacking in found.items():
        lines = ",\n".join(f"  {json.dumps(module)}: {json.dumps(each)}" for module, each in lacking["names"].items())
        parts.append(f'"{system}": {{\n "modules": {json.dumps(lacking["modules"])},\n "names": {{\n{lines}\n }}\n}}')
    LIST.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    write(missing())
