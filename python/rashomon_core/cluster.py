"""Dask: the only file that speaks with a scheduler. Connects, runs a tree of tasks, says what went wrong.

A tree is leaves (tasks that read) and merges of up to ``FAN_IN`` neighbours, level by level, in the order of the
leaves. All of it is one graph: the scheduler merges as leaves finish and repeats the tasks of a worker that dies. The
last few results come back, each as soon as it is there, while workers are at the others.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import signal
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any

from . import tiles
from .errors import MissingDependencyError, UsageError, WorkerError

__all__ = [
    "CONNECT",
    "FAN_IN",
    "PATIENCE",
    "Cluster",
    "Tree",
    "connected",
    "local_cluster",
    "parse_scheduler",
    "size_sent",
]

#: Results that one merge takes in.
FAN_IN = 8
#: Results that are fetched in one call, fewer toward the end: it costs some milliseconds of workers that have something
#: else to do.
FETCHED = 4
#: Seconds that a scheduler has to answer.
CONNECT = 5.0
#: Seconds that a measurement waits while there is no worker at all: local ones start again, batch systems send others.
PATIENCE = 30.0
#: Where Dask's settings keep the environment of a worker, and what the C library reads there.
ENVIRONMENT = "distributed.nanny.pre-spawn-environ"
TRIM, MAPPED = (f"{ENVIRONMENT}.MALLOC_{what}_THRESHOLD_" for what in ("TRIM", "MMAP"))
#: Of local workers and their scheduler: nobody looks at what they note of themselves. Profiles of their Python code
#: cost 5 % of their time, the others 10 % of a processor. Nor do they hand every array's memory back to the system, as
#: Dask asks of the C library: the next one would have to be mapped and zeroed page by page, 5 to 10 % of a pass.
PLAIN = {
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "500ms",
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.system-monitor.gil.enabled": False,
    TRIM: 1 << 26,
    MAPPED: 1 << 25,
}
#: Seconds between two looks at the result, and at the cluster.
LOOK, WATCH = 0.1, 1.0


def _library() -> Any:
    try:
        import dask
        import distributed
    except ImportError as error:
        name = "dask" if (error.name or "dask").startswith("dask") else "distributed"
        raise MissingDependencyError(name, "measuring on a cluster", "dask") from None
    del dask
    return distributed


@contextlib.contextmanager
def connected(scheduler: object = None, *, memory: int | None = None) -> Iterator[Cluster]:
    """Connect to a scheduler, or start one on this machine, for the block.

    Parameters
    ----------
    scheduler : distributed.Client, or str
        A client is used and left open. "tcp://host:port" (or tls, ws) is connected to. "local" and "local:N" start N
        worker processes of one thread (default: one for each processor) and end them with the block; a script that
        does so keeps its own work behind ``if __name__ == "__main__":``, as for every process that Python starts.
        None: the client that is open in this process, else "local".
    memory : int, optional
        Bytes that all local workers together may take for their tiles.

    Raises
    ------
    UsageError
        Nobody answers at the address within :data:`CONNECT` seconds, or it is none.
    MissingDependencyError
        Dask is not installed.
    """
    library = _library()
    if scheduler is None:
        try:
            scheduler = library.get_client()
        except ValueError:
            scheduler = "local"
    if isinstance(scheduler, library.Client):
        if scheduler.status in ("closed", "closing"):
            raise UsageError("this client is closed. Fix: a new one, distributed.Client(address)")
        with Cluster(library, scheduler) as cluster:
            yield cluster
        return
    if not isinstance(scheduler, str):
        raise UsageError(f"scheduler={scheduler!r} is neither a client nor an address. Fix: tcp://host:port, or local")
    local, _, number = parse_scheduler(scheduler).partition(":")
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        count, address = 1, scheduler
        if local == "local":
            count = tiles.parse_threads(int(number) if number else None)
            address = stack.enter_context(local_cluster(count))
        try:
            near = local == "local" or None  # then results need not go through the scheduler
            client = library.Client(address, timeout=CONNECT, set_as_default=False, direct_to_workers=near)
        except (OSError, ValueError, TypeError) as error:
            text = str(error).split("\n")[0]
            raise UsageError(
                f"the scheduler {scheduler} cannot be reached ({text}). Fix: check the address and that it runs "
                "(dask scheduler), or say local"
            ) from None
        stack.callback(_close, client)
        share = memory // count if local == "local" and memory else None
        yield stack.enter_context(Cluster(library, client, share))


@contextlib.contextmanager
def local_cluster(n: int) -> Iterator[Any]:
    """Start ``n`` worker processes of one thread, with a scheduler in this process, for the block."""
    library = _library()
    import dask

    folders = tempfile.TemporaryDirectory(prefix="rashomon-core-dask-", ignore_cleanup_errors=True)
    with _own_environment(), folders as folder:
        cluster = None
        try:
            with _deaf_children(), dask.config.set(PLAIN):
                cluster = library.LocalCluster(
                    n_workers=n,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=None,
                    scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # any free port: two runs do not collide
                    local_directory=folder,
                    silence_logs=logging.CRITICAL,
                )
            yield cluster
        except RuntimeError as error:
            if cluster is not None:
                raise
            raise WorkerError(
                f"the worker processes did not start ({error}). Fix: a script that starts them keeps its own work "
                'behind if __name__ == "__main__":'
            ) from None
        finally:
            if cluster is not None:
                if sys.exc_info()[0] is not None:
                    _end_workers(cluster)
                with contextlib.suppress(Exception):
                    cluster.close()


@contextlib.contextmanager
def _own_environment() -> Iterator[None]:
    """Leave the environment of this process as it was: Dask puts there what it means for its workers, and prefers that.

    What another cluster left there of memory is taken out meanwhile; what a user has set stays.
    """
    import dask

    given, own = dask.config.get(ENVIRONMENT), [key.rpartition(".")[2] for key in (TRIM, MAPPED)]
    before = {name: os.environ.get(name) for name in {*given, *own}}
    for name in own:
        if name in os.environ and before[name] == str(given.get(name)):
            del os.environ[name]
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _end_workers(cluster: Any) -> None:
    """End local workers at once: tasks at hand would be waited for, and nobody wants them any more."""
    for nanny in list(cluster.workers.values()):
        with contextlib.suppress(Exception):
            nanny.auto_restart = False
            os.kill(nanny.pid, getattr(signal, "SIGKILL", signal.SIGTERM))


@contextlib.contextmanager
def _deaf_children() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach, as it reaches the whole group: this process ends them.

    A Ctrl-C that comes meanwhile is raised at the end.
    """
    with tiles.no_interrupts():
        masks = hasattr(signal, "pthread_sigmask")
        if masks:
            resource_tracker.ensure_running()  # it would let the signal in again when it starts
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            if masks:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _close(client: Any) -> None:
    with contextlib.suppress(Exception):  # a scheduler that is gone by now
        client.close()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's log and its warnings about ports and versions from stderr: what matters is raised here."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client", "tornado.application")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(distributed|dask|tornado)(\..*)?")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)


@dataclass(frozen=True)
class Tree:
    """The name of a tree: where its leaves tell their end, and which of the trees that tell it there it is."""

    topic: str = ""
    number: int = 0
    #: Whether anybody listens.
    heard: bool = False

    def key(self, what: str, *number: int) -> str:
        """Return the key of a task.

        Dask takes tasks whose keys are alike but for hash and numbers for a group, and spreads it.
        """
        start, _, own = self.topic.rpartition("-")
        return "-".join([start, what, f"{own}{self.number:02x}", *map(str, number)])

    def note_done(self, nbytes: int) -> None:
        """Tell the client, from inside a task, that one more leaf is done, which has read so many bytes."""
        if not self.heard:
            return
        from distributed import get_worker

        with contextlib.suppress(ValueError):  # called outside a worker
            get_worker().log_event(self.topic, (self.number, nbytes))


def _in_turn() -> Callable[[Any], int]:
    """Return the priority of a task by its key: leaves in their order, as a file is read best, all else before them.

    A function inside a function travels as its code: a scheduler may be without this library.
    """

    def priority(key: Any) -> int:
        parts = str(key).split("-")
        return -int(parts[-1]) if parts[-3:-2] == ["piece"] else 1

    return priority


def _release() -> str:
    from . import __version__

    return __version__


class Cluster:
    """A client, and how to run trees of tasks on it; the block in which that is done hears how far they are."""

    def __init__(self, library: Any, client: Any, memory: int | None = None) -> None:
        self.library, self.client = library, client
        #: Bytes that a task may take, where that is known.
        self.memory = memory
        self._topic = f"rashomon-core-{uuid.uuid4().hex[:12]}"
        self._listening = tiles.progress_is_shown()
        #: Of each tree: leaves that are done, and bytes that they have read.
        self._done: list[list[int]] = []

    def __enter__(self) -> Cluster:
        if self._listening:  # long before the first graph: of a client's messages each waits 10 ms for the one before
            self.client.subscribe_topic(self._topic, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._listening:
            with contextlib.suppress(Exception):
                self.client.unsubscribe_topic(self._topic)

    def _note(self, event: tuple[float, tuple[int, int]]) -> None:
        number, nbytes = event[1]
        self._done[number][0] += 1
        self._done[number][1] += int(nbytes)

    @property
    def workers(self) -> dict[str, Any]:
        """The workers by address, as the scheduler knows them now."""
        facts = self.client.scheduler_info(n_workers=-1)["workers"]
        return {str(address): worker for address, worker in facts.items()}

    @property
    def threads(self) -> int:
        """Tasks that can run at once; 1 while there is no worker yet."""
        return max(1, sum(int(worker["nthreads"]) for worker in self.workers.values()))

    def check(self) -> None:
        """Make sure that every worker has this release of the library.

        Raises
        ------
        UsageError
            One has not, or has none.
        """
        for address, found in self.client.run(_release, on_error="return").items():
            if found != _release():
                has = f"cannot load rashomon-core ({found})" if isinstance(found, Exception) else f"has release {found}"
                raise UsageError(
                    f"the worker {address} {has}, the client has {_release()}. Fix: install the same release there"
                )

    def tree(self) -> Tree:
        """Return a name of its own for a tree: keys of its tasks, events of its progress."""
        self._done.append([0, 0])
        return Tree(self._topic, len(self._done) - 1, self._listening)

    def run(
        self,
        tree: Tree,
        leaves: Sequence[Any],
        merge: Callable[[Any, list[Any]], Any],
        shared: Any,
        take: Callable[[Any], object],
        *,
        label: str,
        keep: int = 1,
        in_turn: bool = False,
    ) -> None:
        """Run a tree and hand on what is left of it, at most ``keep`` results, in the order in which they come.

        Parameters
        ----------
        tree : Tree
            From :meth:`tree`; leaves tell their end with its ``note_done``.
        leaves : sequence of dask.delayed.Delayed
        merge : callable
            Takes ``shared`` and a list of neighbours, leaves them as they are, and returns one of the same kind.
        take : callable
            Called in this thread with each result, while workers are at the others.
        shared : dask.delayed.Delayed, or anything that travels in each task
        in_turn : bool
            Leaves begin in their order: they read, and wait for nothing but ``shared``.

        Raises
        ------
        Exception
            What a task raised.
        WorkerError
            The workers or the scheduler are gone, or a task has ended several workers.
        """
        from dask.delayed import delayed

        level, depth, join = list(leaves), 0, delayed(merge, pure=False)
        while len(level) > keep:
            groups = [level[i : i + FAN_IN] for i in range(0, len(level), FAN_IN)]
            level = [
                g[0] if len(g) == 1 else join(shared, g, dask_key_name=tree.key("merge", depth, k))
                for k, g in enumerate(groups)
            ]
            depth += 1
        done = self._done[tree.number]

        def show() -> None:
            tiles.progress(label, min(done[0], len(leaves)), len(leaves), done[1])  # of a worker that died: twice

        tiles.progress(label, 0, len(leaves))
        futures: list[Any] = []
        try:
            with warnings.catch_warnings():
                # what belongs to samples travels with its tasks, once and nowhere else: large, and meant to be
                warnings.filterwarnings("ignore", message="Sending large graph")
                futures = self.client.compute(level, optimize_graph=False, priority=_in_turn() if in_turn else 0)
            self._collect(futures, take, show)
        except BaseException:
            for future in futures:
                with contextlib.suppress(Exception):
                    future.cancel(force=True)
            raise
        tiles.progress(label, len(leaves), len(leaves), done[1])

    def _collect(self, futures: list[Any], take: Callable[[Any], object], show: Callable[[], None]) -> None:
        """Hand the results on, fetched several at a time as they come."""
        looked = alive = time.monotonic()
        told = False
        ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        for future in futures:
            future.add_done_callback(lambda _: ended.put(None))  # one whose worker dies then is done again
        left = list(range(len(futures)))
        while left:
            with contextlib.suppress(queue.Empty):
                ended.get(timeout=LOOK)  # in pieces: Ctrl-C gets through everywhere
            ready = [k for k in left if self._is_there(futures[k])]
            if len(ready) >= min(FETCHED, -(-len(left) // 2)):
                try:
                    values = self.client.gather([futures[k] for k in ready])
                except Exception:
                    for k in ready:  # what was there a moment ago had to be done again: says what is wrong now
                        self._is_there(futures[k])
                    raise
                for k, value in zip(ready, values, strict=True):
                    take(value)
                    futures[k].release()
                left = [k for k in left if k not in ready]
            show()
            now = time.monotonic()
            if now - looked < WATCH:
                continue
            looked = now
            if self.client.status != "running":
                if self.client.status == "closed" or now - alive > CONNECT:
                    raise WorkerError("the scheduler is gone. Fix: start it and its workers again, then measure again")
                continue
            if self.workers:
                alive, told = now, False
            elif now - alive > PATIENCE:
                raise WorkerError(
                    f"no worker is left (or none came) for {PATIENCE:g} seconds. Fix: start workers (dask worker "
                    "ADDRESS); if they ran out of memory, give them more or state a smaller --memory"
                )
            elif not told:
                told = True
                warnings.warn(f"the cluster has no workers: waiting {PATIENCE:g} seconds for one", stacklevel=4)

    def _is_there(self, future: Any) -> bool:
        """Whether a task is done and what it returned is on a worker; raise what it raised."""
        if future.status == "cancelled":
            raise WorkerError("the scheduler dropped the tasks (it was restarted, or they were cancelled there)")
        if future.status == "error":
            error = future.exception()
            if isinstance(error, self.library.scheduler.KilledWorker):
                raise WorkerError(
                    f"a task ended {error.allowed_failures + 1} workers, one after the other (out of memory, most "
                    "likely). Fix: workers with more memory, or a smaller --memory"
                )
            raise error
        return bool(future.status == "finished")


def size_sent(thing: object) -> int:
    """Return the bytes of something as it is sent to workers."""
    from distributed.protocol.pickle import dumps

    return len(dumps(thing))


def parse_scheduler(text: str) -> str:
    """Return the address as it is, or a message about what it should be, before anything is read.

    Examples
    --------
    >>> from rashomon_core.cluster import parse_scheduler
    >>> parse_scheduler("local:4"), parse_scheduler("tcp://node7:8786")
    ('local:4', 'tcp://node7:8786')
    """
    local, _, count = text.partition(":")
    if local == "local":
        good = text == local or re.fullmatch("[1-9][0-9]{0,2}", count) is not None
    else:
        found = re.fullmatch(r"((tcp|tls|ucxx?|wss?|inproc)://)?[^\s/]+:([0-9]{1,5})", text)
        good = found is not None and int(found[3]) < 1 << 16
    if good:
        return text
    raise UsageError(f"scheduler {text!r} is no address. Fix: tcp://host:port, local, or local:4")
