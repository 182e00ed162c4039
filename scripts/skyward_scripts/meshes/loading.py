"""A user's file as a module, and the function in it that is meant."""

from __future__ import annotations

import ast
import importlib.util
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
    """Import a file under the name that the rest of its package knows it by; what it raises is the user's."""
    directory, name = os.path.split(path.removesuffix(".py"))
    while os.path.isfile(os.path.join(directory, "__init__.py")):
        directory, package = os.path.split(directory)
        name = f"{package}.{name}"
    if directory not in sys.path:
        sys.path.insert(0, directory)  # as `python FILE` does
    if "." in name:
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def function_of(module: ModuleType, name: str) -> Any:
    """Return the function of this name; raises `ConfigError` that names those that there are."""
    found = getattr(module, name, None)
    if callable(found):
        return found
    marked = [known for known, value in vars(module).items() if isinstance(value, Function)]
    there = (
        f"those marked with @sky.function are {', '.join(marked)}" if marked else "none is marked with @sky.function"
    )
    raise ConfigError(f"{module.__file__} has no function {name!r}: {there}")
