"""What is read out of docstrings."""

from __future__ import annotations

import pytest

from skyward_scripts.meshes.docstrings import Said, read

GOOGLE = """Train a model.

    It takes a while.

    Args:
        epochs (int): How often to look
            at everything.
        rate: How fast: 0.1 is fast.
        *names: Of what.

    Returns:
        A loss: small is good.
    """
COLONS = "Note this: it is one line.\n\nAnd example:\n\n    f(1)"
NUMPY = """Train a model.

    Parameters
    ----------
    epochs : int, optional
        How often to look
        at everything.
    rate, decay : float
        How fast.

    Returns
    -------
    loss : float
        What is left.
    """
SPHINX = """Train a model.

    It takes a while.

    :param int epochs: How often to look
        at everything.
    :param rate: How fast.
    :type rate: float
    :returns: What is left.
    """


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            GOOGLE,
            Said(
                "Train a model.\n\nIt takes a while.",
                {"epochs": "How often to look at everything.", "rate": "How fast: 0.1 is fast.", "names": "Of what."},
            ),
        ),
        (
            NUMPY,
            Said(
                "Train a model.",
                {"epochs": "How often to look at everything.", "rate": "How fast.", "decay": "How fast."},
            ),
        ),
        (
            SPHINX,
            Said(
                "Train a model.\n\nIt takes a while.",
                {"epochs": "How often to look at everything.", "rate": "How fast."},
            ),
        ),
        ("Just this.", Said("Just this.", {})),
        (COLONS, Said(COLONS, {})),
        (None, Said("", {})),
        ("", Said("", {})),
    ],
    ids=["google", "numpy", "sphinx", "plain", "colons", "none", "empty"],
)  # fmt: skip
def test_docstring_says_what_function_and_parameters_are(text: str | None, expected: Said) -> None:
    """In each of the three ways of writing them; in none of them it is all text."""
    assert read(text) == expected
