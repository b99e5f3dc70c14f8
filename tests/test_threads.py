"""Many Python threads at once: every public function gives the bytes it gives alone, whoever else runs."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import rashomon_core as rc
from rashomon_core import _decisions, _encode, _sums

Array = npt.NDArray[Any]
MODELS, SAMPLES, CLASSES = 19, 1100, 3
THREADS, TURNS = 8, 3
#: Bits of capacity may differ between instruction sets; the certified intervals overlap.
BY_INTERVAL = ("rashomon_capacity", "channel_capacity", "joint_capacity", "profile", "profile of labels")
#: Files, training and checks of arguments, not kernels.
NOT_HERE = {"open_predictions", "save_predictions", "predict_all", "run_audit"}


def _locked(array: Array) -> Array:
    array.flags.writeable = False
    return array


@pytest.fixture(scope="module")
def shared() -> dict[str, Array]:
    """Inputs that all threads read and none may write."""
    rng = np.random.default_rng(21)
    scores = rng.dirichlet(np.ones(CLASSES), size=(MODELS, SAMPLES)).astype(np.float32)
    target = rng.dirichlet(np.ones(CLASSES), size=SAMPLES)
    given: dict[str, Array] = {
        "scores": scores,
        "binary": np.ascontiguousarray(scores[:, :, 0] / 2),
        "labels": scores.argmax(axis=2).astype(np.int64),
        "target": target,
        "decided": target.argmax(axis=1),
        "y": rng.integers(0, CLASSES, SAMPLES),
        "two": rng.integers(0, 2, (MODELS, SAMPLES), dtype=np.uint8),
        "y2": rng.integers(0, 2, SAMPLES),
        "groups": rng.integers(0, 3, SAMPLES),
        "weights": rng.random(SAMPLES),
        "losses": rng.random(MODELS),
        "channel": rng.dirichlet(np.ones(4), size=5),
        "half": rng.random(SAMPLES),
        "flags": rng.random(SAMPLES) < 0.4,
    }
    return {name: _locked(array) for name, array in given.items()}


def calls(d: dict[str, Array]) -> dict[str, Callable[[], Any]]:
    """Every public function that computes, by name; a space in the name: once more in another way."""
    w = {"sample_weight": d["weights"]}
    scores, labels, two = d["scores"], d["labels"], d["two"]
    return {
        "ambiguity": lambda: rc.ambiguity(labels, d["decided"], threads=1),
        "ambiguity with weights": lambda: rc.ambiguity(labels, d["decided"], threads=2, **w),
        "ambiguous_samples": lambda: rc.ambiguous_samples(labels, d["decided"]),
        "bootstrap": lambda: rc.bootstrap(
            two, reference=d["y2"], metrics=["ambiguity", "discrepancy"], replicates=8, threads=2
        ),
        "channel_capacity": lambda: rc.channel_capacity(d["channel"]),
        "correct_fidelity": lambda: rc.correct_fidelity(labels, d["decided"], d["y"], threads=2),
        "cross_entropy": lambda: rc.cross_entropy(scores, d["target"], threads=2),
        "decide": lambda: rc.decide(scores, threads=2),
        "delta_ambiguity": lambda: rc.delta_ambiguity(d["binary"], d["half"], 0.2, threads=2),
        "delta_discrepancy": lambda: rc.delta_discrepancy(d["binary"], d["half"], 0.2, threads=2),
        "disagreement_rate": lambda: rc.disagreement_rate(labels, threads=2),
        "discrepancy": lambda: rc.discrepancy(labels, d["decided"], threads=2),
        "epsilon_curves": lambda: rc.epsilon_curves(labels, d["losses"], d["y"], threads=2),
        "epsilon_curves with weights": lambda: rc.epsilon_curves(labels, d["losses"], d["y"], threads=1, **w),
        "fairness_over_set": lambda: rc.fairness_over_set(rc.group_rates(two, d["y2"], d["groups"])),
        "fidelity": lambda: rc.fidelity(labels, d["decided"], threads=2),
        "fidelity with weights": lambda: rc.fidelity(labels, d["decided"], threads=1, **w),
        "group_rates": lambda: rc.group_rates(two, d["y2"], d["groups"], threads=2),
        "joint_capacity": lambda: rc.joint_capacity(scores[:5, :60], threads=1),
        "kl_divergence": lambda: rc.kl_divergence(scores, d["target"], threads=2),
        "log_loss": lambda: rc.log_loss(scores, d["y"], threads=2),
        "multiplicity_by_group": lambda: rc.multiplicity_by_group(two, d["groups"], reference=d["y2"], threads=2),
        "pairwise_ambiguity": lambda: rc.pairwise_ambiguity(labels, threads=2),
        "pairwise_disagreement": lambda: rc.pairwise_disagreement(labels, counts=True, threads=2),
        "pairwise_disagreement with weights": lambda: rc.pairwise_disagreement(labels, threads=2, **w),
        "pairwise_discrepancy": lambda: rc.pairwise_discrepancy(labels, threads=2),
        "profile": lambda: rc.profile(scores, target=d["target"], y=d["y"], groups=d["groups"], threads=2),
        "profile of labels": lambda: rc.profile(two, y=d["y2"], epsilon=0.1, selection=d["flags"], threads=1),
        "rashomon_capacity": lambda: rc.rashomon_capacity(scores[:, :200], threads=2),
        "rashomon_mask": lambda: rc.rashomon_mask(d["losses"], 0.3),
        "score_variance": lambda: rc.score_variance(scores, threads=2),
        "self_consistency": lambda: rc.self_consistency(labels, threads=2),
        "size_curves": lambda: rc.size_curves(labels, d["decided"], threads=2),
        "size_matched_ambiguity": lambda: rc.size_matched_ambiguity(labels, d["decided"], 5, threads=2),
        "size_matched_max": lambda: rc.size_matched_max(d["losses"], 5),
        "size_matched_pairwise_ambiguity": lambda: rc.size_matched_pairwise_ambiguity(labels, 5, threads=2),
        "total_variation": lambda: rc.total_variation(scores, d["target"], threads=2),
        "viable_decisions": lambda: rc.viable_decisions(labels, threads=2),
        "viable_prediction_range": lambda: rc.viable_prediction_range(scores, threads=2),
        "votes": lambda: rc.votes(labels, CLASSES, threads=2),
    }


def flat(value: Any) -> Iterator[bytes]:
    """Yield all bytes of a result."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        yield f"{value.dtype}{value.shape}".encode()
        yield value.tobytes()
    elif isinstance(value, rc.Profile):
        yield json.dumps(value.results(), sort_keys=True, default=str).encode()
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            part = getattr(value, field.name)
            if field.repr:  # not what a result solves when it is asked to
                yield field.name.encode()
                yield from flat(part)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield repr(key).encode()
            yield from flat(item)
    elif isinstance(value, (list, tuple, np.ndarray)):
        for item in value:
            yield from flat(item)
    elif isinstance(value, (float, np.floating)):
        yield float(value).hex().encode()
    else:
        assert value is None or isinstance(value, (bool, int, str, np.generic)), type(value)
        yield repr(value).encode()


def all_bytes(value: Any) -> bytes:
    return b"|".join(flat(value))


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns a hundred times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-5)
    yield
    sys.setswitchinterval(before)


def at_once(work: Callable[[int], None], threads: int = THREADS) -> None:
    """Run ``work(i)`` in so many threads that start together; any exception is raised."""
    start = threading.Barrier(threads)

    def one(i: int) -> None:
        start.wait(timeout=60)
        work(i)

    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(one, i) for i in range(threads)]:
            done.result(timeout=300)


def test_every_public_function_is_here(shared: dict[str, Array]) -> None:
    named = {name.partition(" ")[0] for name in calls(shared)}
    with_threads = {
        name
        for name in rc.__all__
        if inspect.isfunction(getattr(rc, name)) and "threads" in inspect.signature(getattr(rc, name)).parameters
    }
    assert with_threads - named <= NOT_HERE
    assert named <= set(rc.__all__)


@pytest.mark.usefixtures("restless")
def test_the_same_bytes_as_alone(shared: dict[str, Array]) -> None:
    work = calls(shared)
    alone = {name: all_bytes(call()) for name, call in work.items()}
    assert all(len(answer) > 4 for answer in alone.values())

    def run(i: int) -> None:
        rng = np.random.default_rng(i)
        for name in rng.permutation(list(work) * TURNS):
            assert all_bytes(work[name]()) == alone[name], name

    before = all_bytes(shared)
    at_once(run)
    assert all_bytes(shared) == before


@pytest.mark.usefixtures("restless")
def test_one_function_in_all_threads(shared: dict[str, Array]) -> None:
    for name, call in calls(shared).items():
        alone = all_bytes(call())

        def run(_: int, name: str = name, call: Callable[[], Any] = call, alone: bytes = alone) -> None:
            for _ in range(2):
                assert all_bytes(call()) == alone, name

        at_once(run, 4)


@pytest.mark.usefixtures("restless")
def test_instruction_set_changes_under_way(shared: dict[str, Array]) -> None:
    """Another thread selects instruction sets all the time: all bits but those of capacity are the same on each."""
    work = calls(shared)
    alone = {name: all_bytes(call()) for name, call in work.items() if name not in BY_INTERVAL}
    capacity = rc.rashomon_capacity(shared["scores"][:, :200])
    before, over = rc.isa_active(), threading.Event()
    seen: set[str] = set()

    def select() -> None:
        for name in itertools.cycle(rc.isa_available()):
            seen.add(rc.isa_select(name))
            if over.wait(1e-4):
                return

    def run(i: int) -> None:
        for name in np.random.default_rng(i).permutation(list(alone)):
            assert all_bytes(work[name]()) == alone[name], name
            assert rc.isa_active() in rc.isa_available()
        found = work["rashomon_capacity"]()
        assert found.certified.all()
        assert (found.lower <= capacity.upper).all()
        assert (capacity.lower <= found.upper).all()

    chooser = threading.Thread(target=select)
    chooser.start()
    try:
        at_once(run, 4)
    finally:
        over.set()
        chooser.join()
        rc.isa_select(before)
    assert seen == set(rc.isa_available())


@pytest.mark.usefixtures("restless")
def test_kernels_write_only_what_is_theirs(shared: dict[str, Array]) -> None:
    """Threads fill their own rows of shared outputs."""
    labels = shared["labels"].astype(np.uint8)
    planes = np.zeros((MODELS, _encode.group_count(SAMPLES), _encode.plane_count(CLASSES), 8), dtype=np.uint64)
    _encode.encode(labels, planes)
    alone = np.zeros((MODELS, MODELS), dtype=np.int64)
    _decisions.pair_counts(planes, planes, alone)
    both = np.zeros_like(planes)
    counts = np.zeros((MODELS, MODELS), dtype=np.int64)
    values = np.random.default_rng(1).random(9000)
    total = _sums.block_totals(values).tobytes()

    def run(i: int) -> None:
        rows = slice(i, None, THREADS)
        for k in range(MODELS)[rows]:
            _encode.encode(labels[k : k + 1], both[k : k + 1])
            _decisions.pair_counts(planes[k : k + 1], planes, counts[k : k + 1])
            assert _sums.block_totals(values).tobytes() == total

    at_once(run)
    assert np.array_equal(both, planes)
    assert np.array_equal(counts, alone)


def run_anew(code: str, *options: str) -> None:
    subprocess.run([sys.executable, *options, "-c", code], check=True, timeout=120)


def test_first_use_in_many_threads() -> None:
    """Names load what they need when they are first used: here by all threads at once."""
    run_anew("""if True:
        import sys, threading
        import rashomon_core as rc
        sys.setswitchinterval(1e-5)
        start, answers = threading.Barrier(8), []
        labels = [[0, 1, 1, 0], [0, 1, 0, 0]]
        def use(i):
            start.wait()
            names = ["ambiguity", "votes", "profile", "group_rates"]
            for name in names[i % 4:] + names[: i % 4]:
                getattr(rc, name)
            answers.append((rc.ambiguity(labels, [0, 1, 1, 1]), rc.votes(labels).tolist(), rc.isa_active()))
        threads = [threading.Thread(target=use, args=(i,)) for i in range(8)]
        [t.start() for t in threads], [t.join() for t in threads]
        assert len(answers) == 8 and all(a == answers[0] for a in answers), answers
        assert answers[0][0] == 0.5
    """)


@pytest.mark.skipif(
    getattr(sys, "_is_gil_enabled", lambda: True)(), reason="this interpreter has a GIL: only a free-threaded one tells"
)
@pytest.mark.parametrize("name", ["_cpu", "_encode", "_decisions", "_scores", "_capacity"])
def test_importing_leaves_the_gil_off(name: str) -> None:
    run_anew(f"import sys, rashomon_core.{name}; assert not sys._is_gil_enabled()", "-W", "error")
