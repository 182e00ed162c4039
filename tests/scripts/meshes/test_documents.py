"""What is printed for programs is JSON, whatever a user's function has returned."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from skyward_scripts.meshes.documents import document

CIRCLE: list[Any] = [1]
CIRCLE.append(CIRCLE)
SAID: list[tuple[Any, Any]] = [
    ({"a": [1, 2.5, None, True, "ä\ud800"]}, {"a": [1, 2.5, None, True, "ä\ud800"]}),
    ({1: 2, None: 3, 1.5: 4}, {"1": 2, "null": 3, "1.5": 4}),
    ((1, {2}), [1, "{2}"]),
    ([1.0, math.nan, -math.inf], [1.0, "nan", "-inf"]),
    ({(1, 2): {3}, 4: math.inf, b"x": (), math.nan: 1}, {"(1, 2)": "{3}", "4": "inf", "b'x'": [], "nan": 1}),
    ({"a": {(1,): [1]}, "b": [2]}, {"a": {"(1,)": [1]}, "b": [2]}),
    ({"a": CIRCLE}, "{'a': [1, [...]]}"),
]


@pytest.mark.parametrize(("value", "told"), SAID)
def test_what_is_no_json_is_its_repr(value: Any, told: Any) -> None:
    """Part by part: the rest is as it was. A value that is a part of itself is one as a whole."""
    said = document(value)
    assert json.loads(said, parse_constant=pytest.fail) == told
