"""The house: imports point upwards, importing is light, stubs match, files stay short, nothing is unpickled."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rashomon_core as rc

PACKAGE = Path(str(rc.__file__)).parent
COMPILED = ("_cpu", "_encode", "_decisions", "_scores", "_sums", "_capacity")
#: Each module imports only what stands above it, or in its own room.
ORDER = (
    "errors",
    "naming",
    "predictions",
    "vectors",
    "inputs",
    "group_results",
    "results",
    "curve_results",
    "buffers",
    "tiles",
    "resuming",
    "workers",
    "jit",
    "metrics.sums",
    "metrics.planes",
    "metrics.channel",
    "metrics.pairs",
    "metrics.visit",
    "metrics.summary",
    "metrics.decisions",
    "metrics.scores",
    "metrics.capacity",
    "metrics.joint",
    "metrics.groups",
    "metrics.by_group",
    "metrics.sets",
    "metrics.curves",
    "metrics.sizes",
    "metrics.replicates",
    "metrics.resampled_groups",
    "metrics.resampling",
    "metrics.overview",
    "asking",
    "membership",
    "profiling",
    "intervals",
    "store",
    "pairwise",
    "merging",
    "settings",
    "accumulate",
    "datasets",
    "example",
    "predict",
    "extraction",
    "exploration",
    "report",
    "audit",
    "cluster",
    "pieces",
    "distributed",
    "cli",
)
PUBLIC = [
    "Predictions",
    "MultiplicityAccumulator",
    "ambiguity",
    "ambiguous_samples",
    "bootstrap",
    "channel_capacity",
    "decide",
    "disagreement_rate",
    "discrepancy",
    "fairness_over_set",
    "epsilon_curves",
    "fidelity",
    "group_rates",
    "isa_available",
    "joint_capacity",
    "multiplicity_by_group",
    "open_predictions",
    "pairwise_ambiguity",
    "pairwise_disagreement",
    "pairwise_discrepancy",
    "predict_all",
    "profile",
    "profile_distributed",
    "rashomon_capacity",
    "rashomon_mask",
    "sample_loss",
    "save_predictions",
    "score_variance",
    "self_consistency",
    "size_curves",
    "viable_prediction_range",
    "votes",
]
HEAVY = (
    "scipy",
    "numba",
    "torch",
    "pandas",
    "typer",
    "rich",
    "sklearn",
    "pyarrow",
    "zarr",
    "h5py",
    "polars",
    "click",
    "cvxpy",
    "vl_convert",
    "jinja2",
    "matplotlib",
    "dask",
    "distributed",
)


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def rank(name: str) -> int | None:
    """Place of a module in the list; None for compiled modules, the package itself and a bare room."""
    head, _, tail = name.partition(".")
    if head in COMPILED or not name or name == "metrics":
        return None
    key = f"metrics.{tail}" if head == "metrics" else head
    assert key in ORDER, f"{name} has no place in the house"
    return ORDER.index(key)


def imported(name: str, path: Path) -> Iterator[tuple[str, int]]:
    """Modules of the package that a file imports, anywhere in it, with the line."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
            inside = [n.removeprefix("rashomon_core").lstrip(".") for n in names if n.split(".")[0] == "rashomon_core"]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = package.split(".")[: len(package.split(".")) - node.level + 1] if package else []
                base = ".".join(x for x in (*up, base) if x)
            elif base.split(".")[0] == "rashomon_core":
                base = base.removeprefix("rashomon_core").lstrip(".")
            else:
                continue
            inside = []
            for a in node.names:
                full = f"{base}.{a.name}".lstrip(".")
                is_module = (PACKAGE / full.replace(".", "/")).is_dir() or full in COMPILED
                is_module = is_module or (PACKAGE / (full.replace(".", "/") + ".py")).is_file()
                inside.append(full if is_module else base)
        else:
            continue
        yield from ((n, node.lineno) for n in inside)


@pytest.mark.parametrize(("name", "path"), list(modules()))
def test_imports_point_upwards(name: str, path: Path) -> None:
    if not name:  # the package's own __init__ hands out everything
        return
    own = rank(name)
    for other, line in imported(name, path):
        place = rank(other)
        if place is None or own is None:
            continue
        same_room = other.split(".")[0] == name.split(".")[0] and name.split(".")[0] != "metrics"
        assert place < own or same_room, f"{path.name}:{line} imports {other}, which stands below {name}"


@pytest.mark.parametrize(("name", "path"), list(modules()))
def test_files_are_short_and_unpickle_nothing(name: str, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 650, f"{path.name} is too long: split it by what it is about"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only"):
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is (node.arg == "weights_only"), f"{path.name}:{node.value.lineno}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            called = f"{node.value.id}.{node.attr}"
            assert called not in ("pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "dill.load"), (
                path.name
            )
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
            assert not {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"} & set(names), path.name
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("torch.load"):
            assert any(k.arg == "weights_only" for k in node.keywords), f"{path.name}:{node.lineno}"


def test_only_tiles_makes_threads() -> None:
    for name, path in modules():
        if name in ("tiles", "workers"):  # threads; processes, and the threads that speak with them
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) != ("threading", "Thread"), path.name
            if isinstance(node, ast.Name):
                assert node.id not in ("ThreadPoolExecutor", "ProcessPoolExecutor"), path.name


@pytest.mark.parametrize("name", COMPILED)
def test_stubs_match_compiled_modules(name: str) -> None:
    stub = ast.parse((PACKAGE / f"{name}.pyi").read_text(encoding="utf-8"))
    named: set[str] = set()
    methods: dict[str, set[str]] = {}
    for node in stub.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            named.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods[node.name] = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            named.add(node.target.id)
    module = importlib.import_module(f"rashomon_core.{name}")
    own = {key: value for key, value in vars(module).items() if not key.startswith("_") and not inspect.ismodule(value)}
    made_here = {key for key, value in own.items() if getattr(value, "__module__", None) == module.__name__}
    assert made_here <= named <= set(own)  # constants may come from a neighbour
    for cls, stubbed in methods.items():
        assert stubbed <= set(dir(getattr(module, cls)))


def test_import_is_light() -> None:
    code = f"import sys, rashomon_core.exploration; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
    work = "import sys, numpy as np, rashomon_core as rc; rc.profile(np.eye(3))"
    code = f"{work}; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_public_names() -> None:
    assert set(PUBLIC) <= set(rc.__all__)
    assert set(rc.__all__) == set(dir(rc))
    for name in rc.__all__:
        value = getattr(rc, name)
        if callable(value):
            assert inspect.getdoc(value), f"{name} has no docstring"
    with pytest.raises(AttributeError, match="no attribute 'unheard_of'"):
        _ = rc.unheard_of
    assert isinstance(rc.__version__, str)
    for name in ("threads", "memory"):
        for function in (rc.decide, rc.fidelity, rc.pairwise_disagreement, rc.votes, rc.profile, rc.group_rates):
            assert name in inspect.signature(function).parameters


def test_doctests() -> None:
    tried = 0
    for info in pkgutil.walk_packages([str(PACKAGE)], "rashomon_core."):
        if info.name.rpartition(".")[2] == "make":
            continue
        if info.name == "rashomon_core.jit" and importlib.util.find_spec("numba") is None:
            continue  # its example compiles
        module = importlib.import_module(info.name)  # optional libraries are imported inside functions only
        result = doctest.testmod(module)
        assert result.failed == 0, info.name
        tried += result.attempted
    assert tried > 40
