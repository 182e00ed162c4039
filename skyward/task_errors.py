"""What goes wrong with a task: a part of `skyward.errors`, where all others are, and from where these are taken."""

from __future__ import annotations

from skyward.failure import SkywardError, told


class TaskError(SkywardError):
    """The user's function, or the process that ran it, failed.

    ``function``, ``node`` (rank) and ``task`` (id) say where; each may be None.
    """

    function: str | None = None
    node: int | None = None
    task: int | None = None

    def where(self) -> str:
        """Return ``" (function f, node 1, task 17)"``, or as much of it as is known."""
        parts = [
            f"{label} {value}"
            for label, value in (("function", self.function), ("node", self.node), ("task", self.task))
            if value is not None
        ]
        return f" ({', '.join(parts)})" if parts else ""


class RemoteError(TaskError, RuntimeError):
    """A remote exception that cannot be raised here as itself.

    It is no ``Exception`` (``SystemExit`` apart), is ``StopIteration``, or cannot be unpickled.
    ``here``: it is a result that cannot be, and ``traceback`` that of unpickling it on the client.
    """

    def __init__(
        self, type_name: str, remote_message: str, traceback: str = "", reason: str = "", *, here: bool = False
    ) -> None:
        super().__init__()
        self.type_name = type_name
        self.remote_message = remote_message
        self.traceback = traceback
        self.reason = reason
        self.here = here

    def __str__(self) -> str:
        text = f"{self.type_name}: {self.remote_message}" if self.remote_message else self.type_name
        text += self.where()
        if self.reason:
            text += f"\n{self.reason}"
        if self.traceback:
            text += (
                f"\n\n{'traceback of unpickling it' if self.here else 'remote traceback'}:\n{self.traceback.rstrip()}"
            )
        return text


class RemoteImportError(TaskError, ImportError):
    """A module that the function or its arguments need cannot be imported on the node; the task has not begun.

    ``in_memory`` says that it exists on the client, where it was made by hand and has no file.
    """

    def __init__(self, module: str, reason: str = "", *, in_memory: bool = False) -> None:
        super().__init__()
        self.module = module
        self.reason = reason
        self.in_memory = in_memory

    def __str__(self) -> str:
        advice = (
            "here it was made in memory, with no file that could be sent: put it into a file on sys.path, "
            "or define what the task needs in __main__ or in a function"
            if self.in_memory
            else "install it there (sky.Image(pip=[...])) or make it importable"
        )
        return f"module {self.module!r} cannot be imported on the node{self.where()}: {self.reason}; {advice}"


class ResultTooLargeError(TaskError, ValueError):
    """A result exceeds ``max_payload``."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__()
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"result of {self.size} bytes exceeds max_payload={self.limit} bytes{self.where()}; "
            "return less, or raise sky.Options(max_payload=...)"
        )


class TaskTimeoutError(TaskError, TimeoutError):
    """The task ran longer than its limit (seconds, from the moment it started), or its group did (from dispatch)."""

    def __init__(self, timeout: float, *, group: bool = False) -> None:
        super().__init__()
        self.timeout = timeout
        self.group = group  # the limit was that of the group

    def __str__(self) -> str:
        if self.group:
            return told(self.timeout, "the group exceeded its timeout of {:g} s, counted from dispatch")
        return told(self.timeout, "task exceeded its timeout of {:g} s") + self.where()


class WorkerCrashedError(TaskError, RuntimeError):
    """The worker process died while it ran the task.

    Exactly one of ``signal`` and ``exitcode`` is set. ``peak_memory`` and ``memory_limit`` are
    bytes (None if unknown), ``oom`` says whether memory ran out, ``stderr`` holds the last lines.
    """

    def __init__(
        self,
        *,
        signal: int | None = None,
        exitcode: int | None = None,
        stderr: tuple[str, ...] = (),
        peak_memory: int | None = None,
        memory_limit: int | None = None,
        oom: bool = False,
        attempts: int = 1,
    ) -> None:
        super().__init__()
        self.signal = signal
        self.exitcode = exitcode
        self.stderr = stderr
        self.peak_memory = peak_memory
        self.memory_limit = memory_limit
        self.oom = oom
        self.attempts = attempts

    def __str__(self) -> str:
        from signal import Signals

        if self.signal is not None:
            try:
                cause = f"was killed by {Signals(self.signal).name}"
            except ValueError:
                cause = f"was killed by signal {self.signal}"
        elif self.exitcode is not None:
            cause = f"exited with code {self.exitcode}"
        else:  # only of an error made by hand
            cause = "died"
        if self.oom:
            cause += ", out of memory"
        if self.attempts > 1:
            cause += f", {self.attempts} times"
        text = f"the worker process {cause} while running the task{self.where()}"
        if self.peak_memory is not None:
            text += f"; peak memory {self.peak_memory / 2**20:.0f} MiB"
            if self.memory_limit is not None:
                text += f" of {self.memory_limit / 2**20:.0f} MiB"
        if self.stderr:
            text += "\nlast lines of its stderr:\n" + "\n".join(f"  {line}" for line in self.stderr)
        return text


class DeadlockError(TaskError, RuntimeError):
    """More tasks wait for one another than the node lends workers for."""
