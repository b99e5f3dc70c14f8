"""store: every format is read block by block and gives what slicing the whole array gives."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rashomon_core import _files, store
from rashomon_core.errors import InvalidInputError
from rashomon_core.store import arrays, files, raw

Array = np.ndarray
READ = [
    (0, 1, 0, 1),
    (0, 7, 0, 53),
    (2, 5, 11, 12),
    (1, 7, 3, 50),
    (6, 7, 52, 53),
    (3, 4, 0, 53),
    (0, 7, 17, 44),
]


def scores(m: int = 7, n: int = 53, c: int | None = 3, dtype: Any = "f4", seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    if c is None:
        return rng.random((m, n)).astype(dtype)
    return rng.dirichlet(np.ones(c), size=(m, n)).astype(dtype)


def count_bytes(monkeypatch: pytest.MonkeyPatch, read: list[int]) -> None:
    """Note the bytes of every read of a file, or of every run of several that are read in one go."""
    one, several = files.RawFile.readinto, _files.read_runs

    def noted(self: Any, view: memoryview, offset: int, fd: int | None = None) -> None:
        read.append(len(view))
        one(self, view, offset, fd)

    def all_noted(fd: int, offsets: Array, length: int, places: Array) -> int:
        done = several(fd, offsets, length, places)
        read.extend([length] * done)
        return done

    monkeypatch.setattr(files.RawFile, "readinto", noted)
    monkeypatch.setattr(_files, "read_runs", all_noted)


def labels(m: int = 7, n: int = 53, c: int = 4, dtype: Any = "u1") -> Array:
    return np.random.default_rng(1).integers(0, c, (m, n)).astype(dtype)


TENSORS = {
    "f2-3d": scores(dtype="f2"),
    "f4-3d": scores(),
    "f8-3d": scores(c=10, dtype="f8"),
    "f4-2d": scores(c=None),
    "u1": labels(),
    "i8": labels(dtype="i8"),
}


def same_blocks(source: Any, full: Array) -> None:
    """Blocks at odd offsets equal slices of the full array, with and without a given ``out``."""
    native = full.dtype.newbyteorder("=")
    assert source.shape == full.shape
    assert source.dtype.newbyteorder("=") == native
    for a, b, c, d in READ:
        want = full[a:b, c:d]
        got = source.read(slice(a, b), slice(c, d))
        np.testing.assert_array_equal(got, want)
        if not source.in_memory:
            assert got.dtype == native
            out = np.empty(want.shape, dtype=native)
            assert source.read(slice(a, b), slice(c, d), out) is out
            np.testing.assert_array_equal(out, want)


# --- .npy ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_npy(tmp_path: Path, name: str, order: Any, byteorder: Any) -> None:
    full = TENSORS[name]
    np.save(
        tmp_path / "p.npy",
        np.asarray(full, order=order).astype(full.dtype.newbyteorder(byteorder), order="K"),
    )
    found = store.open_predictions(tmp_path / "p.npy")
    same_blocks(found.source, full)
    assert not found.source.in_memory
    assert found.kind == ("proba" if full.dtype.kind == "f" else "labels")
    np.testing.assert_array_equal(found.to_array(), full)


@pytest.mark.parametrize("axes", ["samples,models,classes", "classes,models,samples", "samples,classes,models"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("limits", [None, (64, 16, 32)])
def test_npy_axes(tmp_path: Path, axes: str, order: Any, limits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if limits:  # tiny scratch, gaps and runs: every branch of the span logic
        for name, value in zip(("SCRATCH", "GAP", "LONG_RUN"), limits, strict=True):
            monkeypatch.setattr(raw, name, value)
        monkeypatch.setattr(raw, "_LOCAL", threading.local())
    full = scores(c=4)
    where = [("models", "samples", "classes").index(a) for a in axes.split(",")]
    np.save(tmp_path / "p.npy", np.asarray(full.transpose(where), order=order))
    found = store.open_predictions(tmp_path / "p.npy", axes=axes)
    same_blocks(found.source, full)
    assert found.axes == tuple(axes.split(","))


@pytest.mark.parametrize("axes", ["folds,seeds,samples,classes", "seeds,samples,folds,classes", "samples,folds,seeds"])
def test_npy_several_model_axes(tmp_path: Path, axes: str) -> None:
    names = axes.split(",")
    sizes = {"folds": 3, "seeds": 4, "samples": 53, "classes": 2}
    full = np.random.default_rng(2).random([sizes[n] for n in names])
    np.save(tmp_path / "p.npy", full)
    source = store.open_predictions(tmp_path / "p.npy", axes=axes, kind="logits").source
    grid = [k for k, n in enumerate(names) if n in ("folds", "seeds")]
    rest = [names.index("samples")] + ([names.index("classes")] if "classes" in names else [])
    want = full.transpose(grid + rest).reshape(12, *(full.shape[k] for k in rest))
    same_blocks(source, want)
    np.testing.assert_array_equal(source.read(slice(2, 11), slice(5, 9)), want[2:11, 5:9])


def test_npy_read_only_file(tmp_path: Path) -> None:
    full = scores()
    np.save(tmp_path / "p.npy", full)
    os.chmod(tmp_path / "p.npy", 0o444)
    same_blocks(store.open_predictions(tmp_path / "p.npy").source, full)


def test_npy_header_version_2(tmp_path: Path) -> None:
    with open(tmp_path / "p.npy", "wb") as stream:
        np.lib.format.write_array(stream, labels(), version=(2, 0))
    same_blocks(store.open_predictions(tmp_path / "p.npy").source, labels())


def test_one_call_for_a_run_over_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = scores(m=7, n=30_000, c=2)
    np.save(tmp_path / "p.npy", full)
    source = store.open_predictions(tmp_path / "p.npy").source
    calls: list[int] = []
    count_bytes(monkeypatch, calls)
    source.read(slice(1, 6), slice(0, 30_000))
    assert calls == [5 * 30_000 * 2 * 4]
    calls.clear()
    source.read(slice(0, 7), slice(100, 20_000))  # long runs with long gaps: nothing else is read
    assert calls == [19_900 * 2 * 4] * 7


def test_without_preadv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "preadv", raising=False)
    monkeypatch.setattr(_files, "read_runs", lambda *_: 0)
    monkeypatch.delattr(os, "pwrite", raising=False)
    full = scores()
    store.save_predictions(full, tmp_path / "p.npy")
    same_blocks(store.open_predictions(tmp_path / "p.npy").source, full)


def test_runs_that_are_not_read_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    several = _files.read_runs

    def some(fd: int, offsets: Array, length: int, places: Array) -> int:  # as if a signal came after two
        return several(fd, offsets[:2], length, places)

    monkeypatch.setattr(_files, "read_runs", some)
    monkeypatch.setattr(files, "TOGETHER", 1 << 10)
    for dtype in ("<f4", ">f8"):
        full = scores(dtype=dtype)
        np.save(tmp_path / "p.npy", full)
        same_blocks(store.open_predictions(tmp_path / "p.npy").source, full.astype(dtype[1:]))
    source = store.open_predictions(tmp_path / "p.npy").source
    size = 128 + 6 * full[0].nbytes + 100  # in the last model
    os.truncate(tmp_path / "p.npy", size)
    with pytest.raises(InvalidInputError, match=rf"ends at byte {size}, {full[0].nbytes - 100} bytes too early"):
        source.read(slice(0, 7), slice(0, 53))
    with pytest.raises(InvalidInputError, match=rf"ends at byte {size}"):
        source.read(slice(0, 7), slice(20, 50))


def test_more_than_two_to_the_31_elements(tmp_path: Path) -> None:
    m, n, path = 3, 1_000_000_007, tmp_path / "big.npy"
    with open(path, "wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (m, n)})
        base = stream.tell()
        stream.truncate(base + m * n)  # a hole: takes no disk
    with open(path, "r+b") as stream:
        for k in range(m):
            stream.seek(base + k * n + n - 2)
            stream.write(bytes([10 + k, 20 + k]))
    source = store.open_predictions(path).source
    got = source.read(slice(0, m), slice(n - 3, n))
    assert got.tolist() == [[0, 10, 20], [0, 11, 21], [0, 12, 22]]
    assert source.read(slice(2, 3), slice(0, 70_001)).sum() == 0


def test_threads_read_at_once(tmp_path: Path) -> None:
    full = scores(m=40, n=997, c=5)
    np.save(tmp_path / "rows.npy", full)
    np.save(tmp_path / "columns.npy", np.asfortranarray(full))
    for name in ("rows", "columns"):
        source = store.open_predictions(tmp_path / f"{name}.npy").source

        def check(seed: int, source: Any = source) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(20):
                (a, b), (c, d) = sorted(rng.integers(0, 41, 2)), sorted(rng.integers(0, 998, 2))
                np.testing.assert_array_equal(source.read(slice(a, b), slice(c, d)), full[a:b, c:d])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(check, range(16)))


def test_out_of_the_wrong_shape(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", scores())
    source = store.open_predictions(tmp_path / "p.npy").source
    with pytest.raises(ValueError, match="out must be"):
        source.read(slice(0, 2), slice(0, 2), np.empty((2, 3, 3), dtype="f4"))
    with pytest.raises(ValueError, match="out must be"):
        source.read(slice(0, 2), slice(0, 2), np.empty((2, 2, 3), dtype="f8"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors through /proc")
def test_descriptors_are_given_back(tmp_path: Path) -> None:
    full = scores()
    np.save(tmp_path / "p.npy", full)
    np.savez_compressed(tmp_path / "p.npz", full)
    for k in range(50):
        (tmp_path / "f").mkdir(exist_ok=True)
        np.save(tmp_path / "f" / f"{k}.npy", full[0])
    gc.collect()  # descriptors that earlier tests left to the collector are not ours to count
    before = len(os.listdir("/proc/self/fd"))
    kept = store.open_predictions(tmp_path / "f")
    assert len(os.listdir("/proc/self/fd")) == before
    for _ in range(3):
        for name in ("p.npy", "p.npz", "f"):
            store.open_predictions(tmp_path / name).to_array()
    assert len(os.listdir("/proc/self/fd")) == before
    del kept


# --- containers ---------------------------------------------------------------------------------------------


def write_npz(path: Path, **found: Any) -> None:
    np.savez(path, **found)


def write_npz_packed(path: Path, **found: Any) -> None:
    np.savez_compressed(path, **found)


def write_safetensors(path: Path, **found: Array) -> None:
    module = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    module.save_file({k: np.ascontiguousarray(v) for k, v in found.items()}, path)


def write_hdf5(path: Path, **found: Array) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(path, "w") as file:
        for name, value in found.items():
            file.create_dataset(f"group/{name}", data=value)


def write_hdf5_chunked(path: Path, **found: Array) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(path, "w") as file:
        for name, value in found.items():
            chunks = tuple(min(2, n) for n in value.shape) if value.ndim > 1 else (10,)
            file.create_dataset(f"group/{name}", data=value, chunks=chunks, compression="gzip")


def write_zarr(path: Path, version: int, **found: Array) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    group = zarr.open_group(path, mode="w", zarr_format=version)
    for name, value in found.items():
        chunks = (3, 20, 2)[: value.ndim] if value.ndim > 1 else (20,)
        group.create_array(name, data=value, chunks=chunks)


def write_zarr_2(path: Path, **found: Array) -> None:
    write_zarr(path, 2, **found)


def write_zarr_3(path: Path, **found: Array) -> None:
    write_zarr(path, 3, **found)


def write_torch(path: Path, **found: Array) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.save({k: torch.from_numpy(v.copy()) for k, v in found.items()}, path)


def write_torch_old(path: Path, **found: Array) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    tensors = {k: torch.from_numpy(v.copy()) for k, v in found.items()}
    torch.save(tensors, path, _use_new_zipfile_serialization=False)


CONTAINERS: dict[str, tuple[str, Callable[..., None]]] = {
    "npz": (".npz", write_npz),
    "npz-packed": (".npz", write_npz_packed),
    "safetensors": (".safetensors", write_safetensors),
    "hdf5": (".h5", write_hdf5),
    "hdf5-chunked": (".hdf5", write_hdf5_chunked),
    "zarr2": (".zarr", write_zarr_2),
    "zarr3": (".zarr", write_zarr_3),
    "torch": (".pt", write_torch),
    "torch-old": (".pth", write_torch_old),
}


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize(("tensor", "small"), [*((t, False) for t in TENSORS), ("f4-3d", True), ("u1", True)])
def test_container(tmp_path: Path, name: str, tensor: str, small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if small:  # the paths of large files: unpacking into a temporary file, slices smaller than the block
        monkeypatch.setattr(arrays, "SPOOL_MEMORY", 0)
        monkeypatch.setattr(raw, "SLICE_BYTES", 100)
    suffix, write = CONTAINERS[name]
    path = tmp_path / f"p{suffix}"
    full = TENSORS[tensor]
    write(path, only=full)
    same_blocks(store.open_predictions(path).source, full)


@pytest.mark.parametrize("name", CONTAINERS)
def test_container_axes_and_key(tmp_path: Path, name: str) -> None:
    suffix, write = CONTAINERS[name]
    path = tmp_path / f"p{suffix}"
    full = scores()
    prefix = "group/" if name.startswith("hdf5") else ""
    write(path, first=labels(), second=full.transpose(1, 2, 0))
    found = store.open_predictions(path, key=prefix + "second", axes="samples,classes,models")
    same_blocks(found.source, full)
    assert store.open_predictions(path, key=prefix + "first").kind == "labels"


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("c", [None, 3])
def test_container_key_per_model(tmp_path: Path, name: str, c: int | None) -> None:
    suffix, write = CONTAINERS[name]
    path = tmp_path / f"p{suffix}"
    full = scores(m=12, c=c)
    write(path, **{f"m{k}": full[k] for k in reversed(range(12))})
    if c is None and name in ("npz", "npz-packed"):
        assert store.open_predictions(path, key="m3", axes="samples").shape == (1, 53)
    found = store.open_predictions(path, key_per_model=True)
    assert [i.rpartition("/")[2] for i in found.model_ids] == [f"m{k}" for k in range(12)]
    same_blocks(found.source, full)


def test_key_per_model_axes_and_mixed_widths(tmp_path: Path) -> None:
    full = scores(m=3)
    np.savez(tmp_path / "p.npz", a=full[0].T, b=full[1].T.astype(">f8"), c=full[2].T.astype("f2"))
    found = store.open_predictions(tmp_path / "p.npz", key_per_model=True, axes=("classes", "samples"))
    want = np.stack([full[0], full[1], full[2].astype("f2")]).astype("f8")
    np.testing.assert_array_equal(found.to_array(), want)
    assert found.axes == ("models", "classes", "samples")


def test_zarr_array_at_the_root_and_sharded(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    full = scores(m=8, n=60)
    zarr.create_array(tmp_path / "p.zarr", data=full, chunks=(2, 10, 3), shards=(4, 20, 3))
    zarr.create_array(tmp_path / "bare", data=full, chunks=(2, 10, 3))
    for name in ("p.zarr", "bare"):
        source = store.open_predictions(tmp_path / name).source
        same_blocks(source, full)
        assert source.chunks == (2, 10)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["hdf5-chunked", "zarr3", "torch", "npz-packed"])
def test_containers_in_threads(tmp_path: Path, name: str) -> None:
    suffix, write = CONTAINERS[name]
    full = scores(m=9, n=211)
    write(tmp_path / f"p{suffix}", only=full)
    source = store.open_predictions(tmp_path / f"p{suffix}").source

    def check(seed: int) -> None:
        (a, b), (c, d) = (sorted(np.random.default_rng(seed).integers(0, k, 2)) for k in (10, 212))
        np.testing.assert_array_equal(source.read(slice(a, b), slice(c, d)), full[a:b, c:d])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(check, range(40)))


def test_torch_reads_by_offset_and_any_strides(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    full = scores(m=8, n=60, c=4)
    base = torch.from_numpy(full)
    tensors = {
        "plain": base,
        "view": base.transpose(0, 1)[3:, ::2, 1:],  # shares the storage, strided, with an offset
        "wide": base[:1].expand(5, 60, 4),
        "weights": torch.nn.Parameter(base[0].clone()),
    }
    torch.save(tensors, tmp_path / "p.pt")
    for entry in arrays.entries(str(tmp_path / "p.pt"), ".pt"):
        reader = entry.open()
        assert isinstance(reader, raw.RawReader)  # by pread, not through the mapping
        want = tensors[entry.name].detach().numpy()
        np.testing.assert_array_equal(arrays.load(reader), want)
    torch.save(base, tmp_path / "one.pt")
    same_blocks(store.open_predictions(tmp_path / "one.pt").source, full)


def test_bfloat16(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    module = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    full = torch.from_numpy(scores(m=8, n=60)).to(torch.bfloat16)
    torch.save(full, tmp_path / "new.pt")
    torch.save(full, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    module.save_file({"a": full}, tmp_path / "p.safetensors")
    for name in ("new.pt", "old.pt", "p.safetensors"):
        found = store.open_predictions(tmp_path / name)
        np.testing.assert_array_equal(found.to_array(), full.to(torch.float32).numpy())
        assert found.dtype == np.float32
        found.validate()
