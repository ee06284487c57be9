"""A fingerprint of the code behind a step: its module and everything of our own that it imports, directly or not.

Comments, docstrings, blank lines and formatting do not count; a changed expression two imports away does. Snakemake
gets it as a parameter, because an edit in an imported package would otherwise never trigger a rerun.
"""

import ast
import functools
import hashlib
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
_ASSETS = ("templates", "static")  # non-Python files that a package's output depends on


def step_fingerprint(step: str, package: Path = PACKAGE) -> str:
    """Return the fingerprint of `snapcoder.steps.<step>`, 16 hex digits.

    Raises ValueError when there is no such step.
    """
    module = f"{package.name}.steps.{step}"
    if _module_file(module, package) is None:
        raise ValueError(f"{step}: no such step; steps are the modules of {package.name}/steps")
    digest = hashlib.sha256()
    for name in sorted(import_closure(module, package)):
        file = _module_file(name, package)
        assert file is not None
        digest.update(f"{name}\n{_normal_form(file, file.stat().st_mtime_ns)}\n".encode())
        for asset in _assets(file):
            digest.update(asset.relative_to(package).as_posix().encode())
            digest.update(asset.read_bytes())
    return digest.hexdigest()[:16]


def import_closure(module: str, package: Path = PACKAGE) -> set[str]:
    """Return `module` and all modules of the package that it imports, directly or through others.

    Imports inside functions count. Importing a module also runs the packages above it, so these count too.
    """
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen or _module_file(name, package) is None:
            continue
        seen.add(name)
        waiting += [name.rsplit(".", 1)[0]] if "." in name else []
        file = _module_file(name, package)
        assert file is not None
        waiting += _imports(file, name, package.name)
    return seen


def _module_file(name: str, package: Path) -> Path | None:
    base = package.parent.joinpath(*name.split("."))
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)


def _imports(file: Path, module: str, root: str) -> list[str]:
    found = []
    here = module if file.name == "__init__.py" else module.rsplit(".", 1)[0]
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                parent = here.split(".")[: len(here.split(".")) - node.level + 1]
                source = ".".join([*parent, *([node.module] if node.module else [])])
            found.append(source)
            found += [f"{source}.{alias.name}" for alias in node.names]  # `from package import module`
    return [name for name in found if name == root or name.startswith(f"{root}.")]


def _assets(file: Path) -> list[Path]:
    folders = [file.parent / name for name in _ASSETS] if file.name == "__init__.py" else []
    return sorted(path for folder in folders if folder.is_dir() for path in folder.rglob("*") if path.is_file())


def _tree(file: Path) -> ast.Module:
    return _parsed(file, file.stat().st_mtime_ns)


@functools.cache
def _parsed(file: Path, _mtime: int) -> ast.Module:
    tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return tree


@functools.cache
def _normal_form(file: Path, mtime: int) -> str:
    return hashlib.sha256(ast.dump(_parsed(file, mtime)).encode()).hexdigest()
