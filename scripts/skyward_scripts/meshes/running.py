"""`skyward-mesh run` and `exec`: a user's function, program or command on the nodes of a mesh."""

from __future__ import annotations

import os
import runpy
import sys
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Any, cast

import click

import skyward as sky
from skyward.calls import Function
from skyward.errors import AbsentRankError, ConfigError, ProvisionError, SkywardError, TaskError
from skyward_node.unwritten import tell_unwritten
from skyward_scripts.meshes import loading
from skyward_scripts.meshes.documents import document
from skyward_scripts.meshes.endings import ending
from skyward_scripts.meshes.exits import FAILED, KILLED, Unreachable, reader_is_gone, show_failure
from skyward_scripts.meshes.flags import command_for
from skyward_scripts.meshes.loading import Target
from skyward_scripts.meshes.looking import only_mesh

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from contextlib import AbstractContextManager

    Run = Callable[..., Any]

MESH = click.option("--mesh", "-m", "mesh", metavar="NAME", help="The mesh, or the path of its file; the only one.")
REST = {"ignore_unknown_options": True, "allow_interspersed_args": False}  # what follows is for somebody else
NOT_FOUND = 127  # what a shell says of a command that there is not


class Place(click.ParamType[Any]):
    """``any``, ``all``, ``head``, or the number of a node."""

    name = "any|all|head|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the word, or the number."""
        if value in ("any", "all", "head"):
            return value
        if not str(value).isdecimal():
            self.fail(f"{value!r} is no place: say any, all, head, or the number of a node", param, ctx)
        return int(value)


ON = click.option("--on", "place", type=Place(), default="any", show_default=True, help="On which node, or on all.")


@contextmanager
def attached(mesh: str | None, nodes: int | None = None) -> Generator[sky.Compute]:
    """Open a pool on a mesh, or on so many of its nodes; raises `Unreachable` if they do not answer."""
    pool = sky.Compute(mesh=only_mesh(mesh), nodes=nodes)
    try:
        pool.open()
    except ProvisionError as error:
        raise Unreachable(str(error)) from error
    with pool:
        yield pool


@click.command(context_settings=REST)
@MESH
@ON
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document, and all else to stderr.")
@click.argument("target", metavar="FILE[::FUNCTION]")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(
    ctx: click.Context, *, mesh: str | None, place: Any, as_json: bool, target: str, arguments: tuple[str, ...]
) -> None:
    """Run a function of a file on a mesh, and print what it returns; or a file as a program.

    The parameters of the function are flags, see `skyward-mesh run FILE::FUNCTION --help`: their types and defaults
    are those of its signature, their help is what its docstring says. A program is run here, as `python FILE` does,
    with the mesh as its pool: `call >> sky`. A file that only defines functions is refused.

    With --json the results of all nodes are an array, as are the values of a generator; what is no JSON is its repr.

    Exits with 1 if the function, or the program, fails.
    """
    with ending(ctx):
        _run(ctx, mesh, place, target, arguments, as_json=as_json)


def _run(
    ctx: click.Context, mesh: str | None, place: Any, target: str, arguments: Sequence[str], *, as_json: bool
) -> None:
    wanted = Target.parse(target)
    if not wanted.function:
        if names := loading.idle_functions(wanted.path):
            raise ConfigError(
                f"{target} only defines functions, and as a program it does nothing; call one of "
                f"{', '.join(names)}: skyward-mesh run {target}::{names[0]} --help"
            )
        if as_json:
            raise click.UsageError("--json needs FILE::FUNCTION: a program returns nothing, it prints", ctx)
        if place != "any":
            raise click.UsageError("--on needs FILE::FUNCTION: where its calls run a program says itself", ctx)
        _run_program(ctx, mesh, wanted.path, arguments)
        return
    with _stdout_for_json(as_json=as_json):
        function = _tried(ctx, lambda: loading.function_of(loading.load(wanted.path), wanted.function))

    def call(*args: Any, **kwargs: Any) -> None:
        show = _json_of if as_json else _print
        with _stdout_for_json(as_json=as_json), attached(mesh) as pool:
            whole = _tried(ctx, lambda: show(_called(pool, place, marked(function)(*args, **kwargs)), place), place)
        if whole is not None:
            _put(whole)

    command = command_for(function, wanted.function, call)
    with command.make_context(f"skyward-mesh run {target}", list(arguments)) as inner:
        command.invoke(inner)


def _stdout_for_json(*, as_json: bool) -> AbstractContextManager[Any]:
    """Have what the user's code prints go to stderr as long as stdout is kept for a JSON document."""
    return redirect_stdout(sys.stderr) if as_json else nullcontext()


def _tried(ctx: click.Context, action: Callable[[], Any], place: Any = None) -> Any:
    """Return what the user's code returns; if it fails that is shown as Python would, and ends the command.

    ``place`` is where --on wants it.
    """
    try:
        return action()
    except (TaskError, AbsentRankError) as error:
        rank = 0 if place == "head" else place
        text = _absent(error) if isinstance(error, AbsentRankError) and error.rank == rank else str(error)
        click.echo(f"Error: {text}", err=True)
        ctx.exit(FAILED)
    except (SkywardError, click.exceptions.Exit):
        raise
    except Exception as error:
        if isinstance(error, BrokenPipeError) and reader_is_gone():  # a program has printed by itself
            ctx.exit(tell_unwritten(error))
        show_failure(error)
        ctx.exit(FAILED)


def _absent(error: AbsentRankError) -> str:
    """Return what a place is refused with, in the words of the command line."""
    numbers = ", ".join(map(str, error.present))
    return f"there is no node {error.rank}: --on takes {numbers + ', ' if numbers else ''}any, all, or head"


def _run_program(ctx: click.Context, mesh: str | None, path: str, arguments: Sequence[str]) -> None:
    argv, path_before = sys.argv, list(sys.path)
    with attached(mesh):
        sys.argv = [path, *arguments]
        sys.path.insert(0, os.path.dirname(path))
        try:
            _tried(ctx, lambda: runpy.run_path(path, run_name="__main__"))
        finally:
            sys.argv, sys.path[:] = argv, path_before


def marked(function: Any) -> Any:
    """Return the function as `@sky.function` makes it."""
    return cast("Any", function) if isinstance(function, Function) else sky.function(function)


def _called(pool: sky.Compute, place: Any, call: sky.PendingFunction[Any]) -> Any:
    if place == "all":
        return call @ pool
    return (call if place == "any" else call.on(place)) >> pool


def _print(value: Any, place: Any) -> None:
    """Print a result; what streams as it comes."""
    if place == "all":
        for rank, each in enumerate(value):
            _put(f"node {rank}: {_whole(each)}")
    elif is_stream(value):
        for each in value:
            _put(str(each))
    elif value is not None:
        _put(str(value))


def _json_of(value: Any, place: Any) -> str:
    """Return a result as JSON: those of all nodes, and what streams, as arrays; what is no JSON as its repr."""
    return document([_whole(each) for each in value] if place == "all" else _whole(value))


def _whole(value: Any) -> Any:
    return list(value) if is_stream(value) else value


def is_stream(value: object) -> bool:
    """Return whether a result comes value by value."""
    return isinstance(value, sky.ValueStream)


def _put(text: str) -> None:
    """Print a line; what the output cannot have is shown as in a literal."""
    encoding = sys.stdout.encoding
    try:
        click.echo(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:  # told from what the user's code raises, which may be the same
        click.get_current_context().exit(tell_unwritten(error))


# --- commands ------------------------------------------------------------------------------------


@click.command(name="exec", context_settings=REST)
@MESH
@click.option("--on", "place", type=Place(), default="all", show_default=True, help="On which node, or on all.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
@click.pass_context
def execute(ctx: click.Context, *, mesh: str | None, place: Any, command: tuple[str, ...]) -> None:
    """Run a command on the nodes of a mesh, as their user; what it prints comes as it is printed.

    It takes a slot of each node, and waits for it. It is started without a shell: for one say sh -c '...'.

    Exits with the highest exit code of the command on any node; 127 if there is no such command.
    """
    call = sky.function(started_there())(list(command)).with_retries(0)
    with ending(ctx), attached(mesh) as pool:
        codes = _tried(ctx, lambda: _called(pool, place, call), place)
    everywhere: list[int] = codes if place == "all" else [codes]
    ctx.exit(max(map(exit_code, everywhere)))


def exit_code(code: int) -> int:
    """Return the exit code that a shell would show."""
    return KILLED - code if code < 0 else code


def started_there() -> Run:
    """Return a function that runs a command on a node: one that travels by value, as we are not installed there."""
    absent = NOT_FOUND

    def run_command(command: list[str]) -> int:
        import subprocess
        import sys

        try:
            return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
        except OSError as error:
            print(f"{command[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201 - it runs on a node, whose stderr it is
            return absent

    return run_command
