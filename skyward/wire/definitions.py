"""How often a source file defines a name, to tell a function from its namesakes."""

from __future__ import annotations

import ast


def count(path: str, qualname: str) -> int:
    """Return how many ``def`` statements of a file make a function of this qualified name."""
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return 0
    found = 0
    todo: list[tuple[ast.AST, str]] = [(tree, "")]
    while todo:
        node, prefix = todo.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                found += prefix + child.name == qualname
            elif isinstance(child, ast.ClassDef):
                todo.append((child, f"{prefix}{child.name}."))
            elif isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
                todo.append((child, prefix))
    return found
