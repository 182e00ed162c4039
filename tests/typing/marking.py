"""What `sky.function` keeps and refuses, as mypy and pyright see it. Never run, only checked; see ``operators.py``."""

from collections.abc import Callable, Generator
from typing import TypeVar, assert_type

import skyward as sky
from skyward import PendingFunction, ValueStream

T = TypeVar("T")


def plain(number: int) -> str:
    return str(number)


marked = sky.function(plain)
again = sky.function(marked, timeout=3)


@sky.function
def same(value: T) -> T:
    return value


@sky.function
def many(*numbers: int, **options: str) -> Generator[int, str, None]:
    yield from numbers


class Model:
    """Has marked methods."""

    @sky.function
    def predict(self, number: int) -> float:
        """Halve a number."""
        return number / 2

    @staticmethod
    @sky.function
    def load(path: str) -> "Model":
        """Make a model."""
        return Model()


def kept(pool: sky.Compute) -> None:
    assert_type(marked(1) >> pool, str)
    assert_type(again(1) >> pool, str)
    assert_type(many(1, 2, x="y") >> pool, ValueStream[int])
    assert_type(same(1) >> pool, int)
    call: Callable[[int], PendingFunction[str]] = marked
    print(call)
    many("a")  # E: call-overload reportArgumentType
    many(x=1)  # E: call-overload reportArgumentType
    again("a")  # E: arg-type reportArgumentType
    sky.function(5)  # E: call-overload reportArgumentType
    sky.function(timeout="soon")  # E: call-overload reportArgumentType
    sky.function(plain, retries=1.5)  # E: call-overload reportArgumentType


def methods(pool: sky.Compute) -> None:
    model = Model()
    assert_type(model.predict(1) >> pool, float)
    assert_type(Model.predict(model, 1) >> pool, float)
    assert_type(Model.load("x") >> pool, Model)
    assert_type(list(pool.map(model.predict, [1])), list[float])
    assert_type(sky.function(model.predict, timeout=3)(1) >> pool, float)
    assert_type(sky.function(retries=3)(model.predict)(1) >> pool, float)
    assert_type(model.predict.__name__, str)
    model.predict("a")  # E: arg-type reportArgumentType


def names() -> None:
    sky.Computer()  # E: attr-defined reportAttributeAccessIssue


def places() -> None:
    info = sky.instance_info()
    print(info.node)  # E: union-attr reportOptionalMemberAccess
    if info is not None:
        assert_type(info.node, int)
        assert_type(info.is_head, bool)
        assert_type(info.peers[0].private_address, str)
        info.node = 1  # E: misc reportAttributeAccessIssue


@sky.stdout(only="head")
@sky.function
def above(number: int) -> str:
    return str(number)


@sky.function
@sky.stderr(only=lambda info: info.node > 0)
@sky.silent
def below(number: int) -> str:
    return str(number)


def output(pool: sky.Compute) -> None:
    assert_type(above(1) >> pool, str)
    assert_type(below(1) >> pool, str)
    assert_type(sky.silent(plain)(1), str)
    lines: list[sky.OutputLine] = []
    with sky.redirect_output(lines.append):
        above("a")  # E: arg-type reportArgumentType
    sky.stdout(only="tail")  # E: arg-type reportArgumentType
    sky.redirect_output(3)  # E: arg-type reportArgumentType
