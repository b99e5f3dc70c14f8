"""Measure a tensor that is larger than the budget, and print the line of docs/performance.md.

    python bench/measure_big.py DIR --size 20GB --memory 1GB

makes the tensor in DIR (see make_big.py) unless it is there, runs ``rashomon-core measure`` on it in a process of its
own, and prints wall time, bytes of the tensor per second and the largest resident size of the process (VmHWM,
file-backed pages included). The file is dropped from the page cache first (--warm: read
into it first, as far as it fits).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from bench_command import HIGH_WATER
from make_big import make, shape_of

from rashomon_core.tiles import parse_memory


def prepare(path: Path, warm: bool) -> None:
    """Bring all files of a path into the page cache, or ask the system to drop them."""
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    for file in files:
        fd = os.open(file, os.O_RDONLY)
        try:
            if warm:
                while os.read(fd, 1 << 22):
                    pass
            else:
                os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", default="20GB")
    parser.add_argument("--memory", default="1GB")
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--form", choices=["zarr", "npy"], default="zarr")
    parser.add_argument("--metrics", default="pass")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true", help="with a checkpoint: what it costs")
    parser.add_argument("--warm", action="store_true")
    parser.add_argument("--keep", action="store_true", help="do not remove the tensor afterwards")
    given = parser.parse_args()
    size = parse_memory(given.size)
    shape = shape_of(size, given.models, given.classes)
    path = given.folder / f"big-{size}-{given.models}-{given.classes}.{given.form}"
    given.folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        started = time.perf_counter()
        make(path, shape)
        print(f"made {path} in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    prepare(path, given.warm)
    args = ["measure", str(path), "--metrics", given.metrics, "--memory", given.memory, "--json"]
    args += ["--threads", str(given.threads)]
    args += ["--resume", str(given.folder / "state")] if given.resume else []
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", HIGH_WATER, *args], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(done.stderr)
    peak = int(done.stderr.split()[-1]) * 1024
    told = json.loads(done.stdout)
    nbytes = 4 * shape[0] * shape[1] * shape[2]
    read = told["resources"]["seconds"] if "resources" in told else seconds
    cache, kept = "warm" if given.warm else "cold", ", --resume" if given.resume else ""
    print(
        f"| {nbytes / 1e9:.1f} GB .{given.form}, {shape[0]:,} x {shape[1]:,} x {shape[2]} float32 | {given.metrics}"
        f"{kept} | {given.memory} | {given.threads} | {cache}"
        f" | {seconds:.1f} s | {nbytes / 1e9 / read:.2f} GB/s | {peak / 1e6:,.0f} MB |"
    )
    if not given.keep:
        import shutil

        shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    main()
