"""What the command costs besides its work: peak memory, start-up time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

Array = npt.NDArray[Any]
#: Interpreter and libraries, beside the stated budget.
ALLOWANCE = 96_000_000
#: Prints the largest resident size of the process, file-backed pages included, when it ends.
HIGH_WATER = """
import atexit, sys
def peak():
    with open("/proc/self/status") as f:
        print(next(x for x in f if x.startswith("VmHWM")).split()[1], file=sys.stderr)
atexit.register(peak)
from rashomon_core.cli import main
main()
"""
IMPORTS = {
    "numpy": "import numpy",
    "package": "import numpy, rashomon_core",
    "profile": "import numpy, rashomon_core; rashomon_core.profile",
}


def write_scores(path: Path, models: int, samples: int, classes: int) -> None:
    """Write valid float32 scores model by model: the file may be larger than memory."""
    rng = np.random.default_rng(4)
    long = rng.random((samples + 4096, classes), dtype=np.float32)
    long /= long.sum(axis=1, keepdims=True)
    with open(path, "wb") as f:
        header = {"descr": "<f4", "fortran_order": False, "shape": (models, samples, classes)}
        np.lib.format.write_array_header_2_0(f, header)  # type: ignore[arg-type]
        for start in rng.integers(0, 4096, models):
            f.write(memoryview(long[start : start + samples]).cast("B"))


def write_form(path: Path, form: str, models: int, samples: int, classes: int) -> Path:
    """Write the same scores as .npy, as .zarr (plain chunks of 16 MB, packed ones of 4 MB), or a folder of models."""
    write_scores(path / "p.npy", models, samples, classes)
    if form == "npy":
        return path / "p.npy"
    made = path / ("p.zarr" if "zarr" in form else "p")
    source = np.load(path / "p.npy", mmap_mode="r")
    if form == "folder":
        made.mkdir()
        for k in range(models):
            np.save(made / f"m{k}.npy", source[k])
    else:
        zarr = pytest.importorskip("zarr", reason="zarr is not installed")
        width = min(samples, max(1, (4_000_000 if "packed" in form else 16_000_000) // (4 * models * classes)))
        packed = "auto" if "packed" in form else None
        z = zarr.create_array(made, shape=source.shape, chunks=(models, width, classes), dtype="f4", compressors=packed)
        for n in range(0, samples, 8 * width):
            z[:, n : n + 8 * width] = source[:, n : n + 8 * width]
    del source
    (path / "p.npy").unlink()
    return made


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="VmHWM is Linux's")
@pytest.mark.parametrize(
    ("form", "models"), [("npy", 256), ("npy", 20), ("zarr", 256), ("zarr, packed", 256), ("folder", 256)]
)
@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("metrics", ["all", "pass"])
def bench_peak_memory(
    metrics: str,
    classes: int,
    form: str,
    models: int,
    benchmark: Any,
    tmp_path: Path,
    size: Callable[[str], int],
    report: Callable[..., None],
) -> None:
    memory, largest = size("COMMAND_MEMORY"), size("COMMAND_FACTOR")
    peaks: dict[int, float] = {}

    def measure(factor: int) -> None:
        samples = factor * memory // (models * classes * 4)
        preds = write_form(tmp_path, form, models, samples, classes)
        rng = np.random.default_rng(6)
        args = ["measure", str(preds), "--metrics", metrics, "--memory", str(memory), "--json"]
        for option, values in (("--target", classes), ("--labels", classes), ("--groups", 4)):
            file = tmp_path / f"{option[2:]}.npy"
            np.save(file, rng.integers(0, values, samples, dtype=np.uint8))
            args += [option, str(file)]
        done = subprocess.run([sys.executable, "-c", HIGH_WATER, *args], capture_output=True, text=True, check=False)
        shutil.rmtree(preds) if preds.is_dir() else preds.unlink()
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["results"]["shape"]["samples"] == samples
        peaks[factor] = int(done.stderr.split()[-1]) * 1024

    factors = sorted({1, min(4, largest), largest})
    benchmark.pedantic(lambda: [measure(f) for f in factors], rounds=1)
    for factor in factors:
        name = f"measure --metrics {metrics}, .{form}, {models} models, C={classes}, file {factor} x --memory: VmHWM"
        report(f"{name} - --memory", (peaks[factor] - memory) / 1e6, "MB", ALLOWANCE / 1e6, at_most=True)


def seconds(args: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *args], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def bench_import(race: Callable[..., Any], size: Callable[[str], int], report: Callable[..., None]) -> None:
    seen = race(
        lambda: seconds(["-c", IMPORTS["package"]]),
        rounds=size("STARTS"),
        threads=2,  # other processes: time on the wall
        numpy=lambda: seconds(["-c", IMPORTS["numpy"]]),
        profile=lambda: seconds(["-c", IMPORTS["profile"]]),
    )
    cost = {name: 1e3 * (seen.seconds[name] - seen.seconds["numpy"]) for name in ("subject", "profile")}
    report("import rashomon_core beyond import numpy", cost["subject"], "ms", 30, at_most=True)
    report("the same and first use of rc.profile", cost["profile"], "ms")


def bench_help(race: Callable[..., Any], size: Callable[[str], int], report: Callable[..., None]) -> None:
    seen = race(
        lambda: seconds(["-m", "rashomon_core.cli", "--help"]),
        rounds=size("STARTS"),
        threads=2,
        python=lambda: seconds(["-c", "pass"]),
    )
    report("rashomon-core --help", seen.seconds["subject"], "s", 0.4, at_most=True)
    report("  python -c pass", seen.seconds["python"], "s")
