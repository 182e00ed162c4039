"""What a docstring says of a function and of each parameter: Google's, NumPy's and Sphinx's ways of writing. PURE."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

SECTIONS: Final = {
    "args", "arguments", "parameters", "params", "keyword args", "keyword arguments", "returns", "return", "yields",
    "raises", "example", "examples", "note", "notes", "attributes", "see also", "references", "warnings",
}  # fmt: skip
OF_PARAMETERS: Final = {"args", "arguments", "parameters", "params", "keyword args", "keyword arguments"}
_SPHINX: Final = re.compile(r":(?:param|parameter|arg|argument|key)\s+(?:[^:]*\s)?\*{0,2}(\w+)\s*:\s*(.*)")
_FIELD: Final = re.compile(r":\w+[^:]*:")
_GOOGLE: Final = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")
_NUMPY: Final = re.compile(r"\*{0,2}(\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?")
_RULE: Final = re.compile(r"-{3,}|={3,}")


class Said(NamedTuple):
    """What a docstring says."""

    text: str  # of the function: all before the first section
    parameters: dict[str, str]


def read(docstring: str | None) -> Said:
    """Return what a docstring says; one in another form is all text."""
    lines = inspect.cleandoc(docstring or "").splitlines()
    text: list[str] = []
    found: dict[str, str] = {}
    for title, body in _sections(lines):
        if not title:
            fields = (number for number, line in enumerate(body) if _FIELD.match(line.strip()))
            text = body[: next(fields, len(body))]
        elif title in OF_PARAMETERS:
            found |= _listed(body)
    return Said("\n".join(text).strip(), found | _fields(lines))


def _sections(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield title and lines of each section; the first has no title."""
    title: str = ""
    body: list[str] = []
    for number, line in enumerate(lines):
        following = lines[number + 1].strip() if number + 1 < len(lines) else ""
        name = line.strip().rstrip(":").lower()
        opens = line.strip().endswith(":") or _RULE.fullmatch(following)
        if name in SECTIONS and opens and line == line.lstrip():
            yield title, body
            title, body = name, []
        elif not _RULE.fullmatch(line.strip()):
            body.append(line)
    yield title, body


def _listed(body: list[str]) -> dict[str, str]:
    """Return the parameters of a section: with the text beside the name, or indented below it."""
    found: dict[str, list[str]] = {}
    names: list[str] = []
    filled = [line for line in body if line.strip()]
    indent = min((_indent(line) for line in filled), default=0)
    for line in filled:
        word = line.strip()
        beside = _GOOGLE.fullmatch(word) if indent else None
        alone = _NUMPY.fullmatch(word) if not indent else None
        if _indent(line) == indent and beside is not None:
            names = [beside[1]]
            found[beside[1]] = [beside[2]]
        elif _indent(line) == indent and alone is not None:
            names = re.findall(r"\w+", alone[1])
            found |= {name: [] for name in names}
        else:
            for name in names:
                found[name].append(word)
    return {name: " ".join(filter(None, words)) for name, words in found.items()}


def _fields(lines: list[str]) -> dict[str, str]:
    """Return the parameters of ``:param name: text``, with the lines indented below."""
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        match = _SPHINX.fullmatch(line.strip())
        if match is not None:
            name = match[1]
            found[name] = match[2]
        elif name and _indent(line) > 0 and not _FIELD.match(line.strip()):
            found[name] += f" {line.strip()}"
        else:
            name = ""
    return found


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
