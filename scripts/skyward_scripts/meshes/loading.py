"""A user's file as a module, and the function in it that is meant."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from skyward.calls import Function
from skyward.errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType


class Target(NamedTuple):
    """What ``FILE[::FUNCTION]`` names."""

    path: str
    function: str  # "": the file is run as a program

    @classmethod
    def parse(cls, text: str) -> Target:
        """Return what the text names; raises `ConfigError`."""
        path, colons, function = text.partition("::")
        if not os.path.isfile(path):
            raise ConfigError(f"there is no file {path!r}: say FILE.py or FILE.py::FUNCTION")
        if colons and not function.isidentifier():
            raise ConfigError(f"{function!r} is no name of a function: say FILE.py::FUNCTION")
        return cls(os.path.abspath(path), function)


def idle_functions(path: str) -> list[str]:
    """Return the functions of a file that does nothing but define them; [] if it does more, or cannot be read."""
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read(), path)
    except (OSError, SyntaxError, ValueError):
        return []  # running it says what is wrong
    names = [each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    if not all(_only_defines(each, set(names)) for each in tree.body):
        return []
    return [name for name in names if not name.startswith("_")]


def _only_defines(statement: ast.stmt, functions: set[str]) -> bool:
    """Return whether a statement runs nothing of the file's own."""
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Import() | ast.ImportFrom() | ast.Pass():
            return True
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.Assign(value=value) | ast.AnnAssign(value=value):
            return value is None or not any(_runs(each, functions) for each in ast.walk(value))
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"), body=body, orelse=orelse):
            return all(_only_defines(each, functions) for each in [*body, *orelse])
        case ast.Try(body=body, handlers=handlers, orelse=[], finalbody=[]):
            inner = [*body, *(each for handler in handlers for each in handler.body)]
            return all(_only_defines(each, functions) for each in inner)
        case _:
            return False


def _runs(part: ast.AST, functions: set[str]) -> bool:
    """Return whether a part of an expression may run something: by our operators, or a function of the file."""
    match part:
        case ast.BinOp(op=ast.RShift() | ast.MatMult()) | ast.Compare(ops=[ast.Gt(), *_]):
            return True
        case ast.Call(func=ast.Name(id=name)):
            return name in functions
        case _:
            return False


def load(path: str) -> ModuleType:
    """Import a file under the name that the rest of its package knows it by; what it raises is the user's.

    Raises `ConfigError` for a file that cannot be imported by its name.
    """
    if not path.endswith(".py"):
        raise ConfigError(f"{path} is no Python file: the name of one with functions ends in .py")
    directory, name = os.path.split(path.removesuffix(".py"))
    packages: list[str] = []
    while os.path.isfile(os.path.join(directory, "__init__.py")):
        directory, package = os.path.split(directory)
        packages.insert(0, package)
    if directory not in sys.path:
        sys.path.insert(0, directory)  # as `python FILE` does
    if packages:
        return importlib.import_module(".".join([*packages, name]))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def function_of(module: ModuleType, name: str) -> Any:
    """Return the function of this name; raises `ConfigError` that names those that there are."""
    found = getattr(module, name, None)
    if is_function(found):
        return found
    marked = [known for known, value in vars(module).items() if isinstance(value, Function)]
    there = (
        f"those marked with @sky.function are {', '.join(marked)}" if marked else "none is marked with @sky.function"
    )
    if not hasattr(module, name):
        raise ConfigError(f"{module.__file__} has no function {name!r}: {there}")
    what = "a class" if isinstance(found, type) else f"of type {type(found).__name__}"
    raise ConfigError(f"{name!r} in {module.__file__} is {what}, and no function that can be run: {there}")


def is_function(value: object) -> bool:
    """Return whether this can be called by flags: it is no class, and it is known what it takes."""
    if isinstance(value, type) or not callable(value):
        return False
    try:
        inspect.signature(inspect.unwrap(value))
    except (TypeError, ValueError):
        return False
    return True
