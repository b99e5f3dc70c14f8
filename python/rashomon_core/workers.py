"""Worker processes: the only file that makes them.

A task is a function that can be imported, a payload shared by all tasks, and an item. Results come back in the order
of the items, whatever process was faster. Every process, the caller's included when it works itself, computes with
one inner thread, so that the number of workers changes no byte of a result.

Workers are fresh interpreters that speak through pipes with their parent and with nobody else: no fork (threads and
OpenMP do not survive one), and the caller's script is not run again. When the parent dies, however it dies, the
pipe ends and its workers leave at once. What they have committed by then stays.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import queue
import signal
import struct
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.reduction import ForkingPickler
from typing import IO, Any

from . import tiles
from .errors import WorkerError

__all__ = ["one_thread", "parse_workers", "run_tasks"]

_INNER = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_HEAD = struct.Struct("<Q")


def parse_workers(value: int | None) -> int:
    """Return a number of worker processes: the given one, or one for each processor this process may use."""
    return tiles.parse_threads(value)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one inner thread inside: BLAS, OpenMP and torch."""
    with contextlib.ExitStack() as stack:
        try:
            from threadpoolctl import threadpool_limits
        except ImportError:
            pass
        else:
            stack.enter_context(threadpool_limits(1))
        torch = sys.modules.get("torch")
        if torch is not None:
            before = torch.get_num_threads()
            torch.set_num_threads(1)
            stack.callback(torch.set_num_threads, before)
        yield


def run_tasks(
    function: Callable[[Any, Any], Any],
    shared: Any,
    items: Sequence[Any],
    *,
    workers: int,
    label: str = "",
) -> list[Any]:
    """Return ``[function(shared, item) for item in items]``, worked out by several processes.

    Parameters
    ----------
    function : a function at the top level of a module
    shared, items : what pickles
        ``shared`` is sent once to each worker. When something does not pickle, or belongs to a script (a class that
        is defined there is known to nobody else), the caller's own process does all the work, and a warning says so.
    workers : int
        1: the caller's process.

    Raises
    ------
    Exception
        The error of the earliest item that failed, as the task raised it; tasks that wait are not started.
    """
    tiles.progress(label, 0, len(items))
    count = min(workers, len(items))
    messages: list[bytes] = []
    if count > 1:
        for value in ((function.__module__, function.__qualname__, shared), *items):
            message = _dumped(value)
            if message is None:
                warnings.warn(
                    f"{label or function.__name__}: one process does all the work, because its models or data do not "
                    "pickle or belong to a script. Fix: define them in a module that can be imported",
                    stacklevel=2,
                )
                count = 1
                break
            messages.append(message)
    if count <= 1:
        results = []
        with one_thread():
            for k, item in enumerate(items):
                results.append(function(shared, item))
                tiles.progress(label, k + 1, len(items))
        return results
    return _Pool(messages[0], messages[1:], count, label).run()


def _dumped(value: Any) -> bytes | None:
    """Return a value as bytes for a worker, or None when a worker could not read it."""
    try:
        data = bytes(ForkingPickler.dumps(value))
    except Exception:  # whatever a user's object raises when it does not pickle
        return None
    return None if b"__main__" in data else data


class _Pool:
    """Workers, and a thread of this process for each that hands it items and waits for its answers."""

    def __init__(self, payload: bytes, items: list[bytes], count: int, label: str) -> None:
        self.payload, self.items, self.label = payload, items, label
        self.todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        for k in range(len(items)):
            self.todo.put(k)
        self.done: queue.SimpleQueue[tuple[int, bool, Any]] = queue.SimpleQueue()
        self.processes = [_start() for _ in range(count)]
        self.stopping = False

    def run(self) -> list[Any]:
        threads = [threading.Thread(target=self._feed, args=(p,), daemon=True) for p in self.processes]
        results: list[Any] = [None] * len(self.items)
        errors: dict[int, Any] = {}
        try:
            for thread in threads:
                thread.start()
            left, finished = len(threads), 0
            while left:
                k, good, value = self._next()
                if k < 0:
                    left -= 1
                    continue
                if good:
                    results[k] = value
                    finished += 1
                    tiles.progress(self.label, finished, len(self.items))
                else:
                    errors[k] = value
                    self.stopping = True  # the tasks at hand are finished, none is begun
        finally:
            self.stopping = True
            for process in self.processes:
                if sys.exc_info()[0] is not None:
                    process.kill()
                with contextlib.suppress(OSError):
                    assert process.stdin is not None
                    process.stdin.close()
            for process in self.processes:
                process.wait()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            for process in self.processes:
                assert process.stdout is not None
                process.stdout.close()
        if errors:
            raise errors[min(errors)]
        return results

    def _next(self) -> tuple[int, bool, Any]:
        while True:  # waiting in pieces lets Ctrl-C through everywhere
            try:
                return self.done.get(timeout=0.2)
            except queue.Empty:
                continue

    def _feed(self, process: subprocess.Popen[bytes]) -> None:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            sent = False
            while not self.stopping:
                try:
                    k = self.todo.get_nowait()
                except queue.Empty:
                    break
                try:
                    if not sent:
                        _send(process.stdin, self.payload)
                        sent = True
                    _send(process.stdin, self.items[k])
                    answer = _receive(process.stdout)
                except (OSError, EOFError) as error:
                    if not self.stopping:
                        code = process.poll()
                        text = f"a worker process ended in the middle of a task ({code if code is not None else error})"
                        self.done.put((k, False, WorkerError(f"{text}. Fix: fewer workers, if memory ran out")))
                    break
                try:
                    self.done.put((k, *ForkingPickler.loads(answer)))
                except Exception as error:  # what a worker knows how to read and this process does not
                    self.done.put((k, False, WorkerError(f"the result of item {k} cannot be read: {error!r}")))
        finally:
            self.done.put((-1, True, None))


def _start() -> subprocess.Popen[bytes]:
    environment = {**os.environ, **dict.fromkeys(_INNER, "1")}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-c", "from rashomon_core.workers import serve; serve()"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def _send(stream: IO[bytes], data: bytes) -> None:
    stream.write(_HEAD.pack(len(data)))
    stream.write(data)
    stream.flush()


def _receive(stream: IO[bytes]) -> bytes:
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise EOFError("the pipe ended")
    (size,) = _HEAD.unpack(head)
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("the pipe ended")
    return data


# --- inside a worker --------------------------------------------------------------------------------------------


def serve() -> None:
    """Work for the parent at the other end of stdin and stdout until it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent decides
    wires = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a model prints must not reach the wire
    tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def listen() -> None:
        try:
            while True:
                tasks.put(_receive(wires[0]))
        except (EOFError, OSError):
            os._exit(0)  # the parent is gone, or needs this worker no more

    threading.Thread(target=listen, daemon=True).start()
    function: Callable[[Any, Any], Any] | None = None
    shared: Any = None
    problem: BaseException | None = None
    try:
        module, name, shared = ForkingPickler.loads(tasks.get())
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        function = found
    except Exception as error:
        problem = error
    while True:
        data = tasks.get()
        try:
            if problem is not None:
                raise problem
            assert function is not None
            with one_thread():
                answer = (True, function(shared, ForkingPickler.loads(data)))
        except Exception as error:
            answer = (False, error)
        _send(wires[1], _packed(answer))


def _packed(answer: tuple[bool, Any]) -> bytes:
    try:
        data = bytes(ForkingPickler.dumps(answer))
        ForkingPickler.loads(data)  # some exceptions pickle and do not come back
        return data
    except Exception as error:  # of pickling: the task's own error, or why its result stays, is told as a text
        text = "".join(traceback.format_exception(answer[1] if isinstance(answer[1], BaseException) else error))
        return bytes(ForkingPickler.dumps((False, WorkerError(f"a worker could not send back: {text}"))))
