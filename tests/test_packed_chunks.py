"""Packed Zarr chunks: decoded once and side by side, by any codec; damaged ones are named, and none is unpickled."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from streaming_data import numbers, scores, write

import rashomon_core as rc
from rashomon_core import tiles
from rashomon_core.store import chunks

Array = NDArray[Any]


@pytest.mark.parametrize(("form", "width", "models"), [("zarr-packed", 2048, 6), ("zarr-odd", 3000, 12)])
def test_packed_chunks_are_decoded_once_per_pass(
    form: str, width: int, models: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, scores(12, 21_000, 2), form)
    decoded: list[Any] = []
    read = chunks.ZarrReader._decoded

    def counted(reader: Any, place: Any, starts: Any, inside: Any) -> Any:
        decoded.append(place)
        return read(reader, place, starts, inside)

    monkeypatch.setattr(chunks.ZarrReader, "_decoded", counted)
    monkeypatch.setattr("rashomon_core.store.raw.SLICE_BYTES", 1)
    for memory in ("4MB", "64MB"):
        decoded.clear()
        rc.profile(rc.open_predictions(path), metrics="pass", threads=2, memory=memory)
        assert len(decoded) == len(set(decoded)) == 12 // models * -(-21_000 // width)


def test_threads_decode_chunks_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tiles share the second of three chunks: the third is decoded while the second still is."""
    pytest.importorskip("zarr", reason="zarr is not installed")
    array = scores(3, 3300, 3)
    view = rc.open_predictions(write_packed(tmp_path, array, "zstd", 1100))
    decode, began = chunks.ZarrReader._decoded, threading.Event()
    side_by_side: list[bool] = []

    def decoded(reader: Any, place: tuple[int, ...], *where: Any) -> Any:
        if place[1] == 2:
            began.set()
        if place[1] == 1:
            side_by_side.append(began.wait(20))
        return decode(reader, place, *where)

    monkeypatch.setattr(chunks.ZarrReader, "_decoded", decoded)
    blocks: list[Array] = []
    tiles.run(
        [(0, 1536), (1536, 3072)],
        lambda task, scratch: tiles.read_block(view, slice(0, 3), slice(*task), scratch).copy(),
        lambda task, block: blocks.append(block),
        threads=2,
    )
    assert side_by_side == [True]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), array[:, :3072])


CODECS = ["zstd", "blosc", "gzip", "v2 zstd", "v2 blosc", "v2 lz4", "two codecs", "fortran", "big-endian", "crc32c"]


def write_packed(path: Path, array: Array, codec: str, samples: int = 1000) -> str:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    import numcodecs

    options: dict[str, Any] = {"shape": array.shape, "chunks": (3, samples, array.shape[2]), "dtype": "f4"}
    if codec.startswith("v2"):
        kind = {"zstd": numcodecs.Zstd, "blosc": numcodecs.Blosc, "lz4": numcodecs.LZ4}[codec.split()[1]]
        options |= {"zarr_format": 2, "compressors": kind()}
    elif codec == "fortran":
        options |= {"zarr_format": 2, "compressors": numcodecs.Zstd(), "order": "F"}
    elif codec == "big-endian":
        options |= {"serializer": zarr.codecs.BytesCodec(endian="big"), "compressors": zarr.codecs.ZstdCodec()}
    else:
        made = {
            "zstd": [zarr.codecs.ZstdCodec(checksum=True)],
            "blosc": [zarr.codecs.BloscCodec(cname="lz4", shuffle="shuffle")],
            "gzip": [zarr.codecs.GzipCodec()],
            "two codecs": [zarr.codecs.GzipCodec(), zarr.codecs.ZstdCodec()],
            "crc32c": [zarr.codecs.Crc32cCodec()],
        }
        options["compressors"] = made[codec]
    zarr.create_array(path / "p.zarr", **options)[:] = array
    return str(path / "p.zarr")


@pytest.mark.parametrize("codec", CODECS)
def test_packed_chunks_of_any_codec(codec: str, tmp_path: Path) -> None:
    array = scores(7, 4500, 3)
    view = rc.open_predictions(write_packed(tmp_path, array, codec))
    direct = getattr(view.source._reader, "_codec", None)  # type: ignore[attr-defined]
    assert (direct is not None) == (codec not in ("two codecs", "fortran", "big-endian", "crc32c"))
    for models, samples in ((slice(0, 7), slice(0, 4500)), (slice(2, 5), slice(990, 3010)), (slice(6, 7), slice(4, 5))):
        np.testing.assert_array_equal(view.source.read(models, samples), array[models, samples])
    assert numbers(view) == numbers(rc.Predictions.from_array(array))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 65_791, 65_792, 70_000, 3_000_000])
def test_what_a_packed_chunk_says_of_its_length(size: int) -> None:
    numcodecs = pytest.importorskip("numcodecs", reason="numcodecs is not installed")
    data = np.random.default_rng(size).integers(0, 9, size, dtype=np.uint8)
    for codec in (numcodecs.Zstd(), numcodecs.Zstd(level=19, checksum=True), numcodecs.Blosc()):
        packed = memoryview(codec.encode(data)).cast("B")
        assert chunks._said_size(codec.codec_id, packed) == size
        for end in range(18):  # of one that was cut off: nothing, or the same
            assert chunks._said_size(codec.codec_id, packed[:end]) in (None, size)
    assert chunks._said_size("gzip", packed) is None


@pytest.mark.parametrize("place", ["compressor", "filters"])
def test_a_codec_that_unpickles_is_refused(place: str, tmp_path: Path) -> None:
    array, trace = scores(7, 4500, 3), tmp_path / "trace"
    path = Path(write_packed(tmp_path, array, "v2 zstd"))
    facts = json.loads((path / ".zarray").read_text())
    codec = {"id": "pickle", "protocol": 5}
    facts |= {"compressor": codec} if place == "compressor" else {"compressor": None, "filters": [codec]}
    (path / ".zarray").write_text(json.dumps(facts))
    for chunk in path.glob("[0-9]*"):
        chunk.write_bytes(f"cos\nmkdir\n(V{trace}\ntR.".encode())
    with pytest.raises(rc.InvalidInputError):
        rc.profile(rc.open_predictions(path), metrics="pass")
    assert not trace.exists()
    stated = SimpleNamespace(dtype="f4", chunks=(1,), metadata=SimpleNamespace(to_dict=lambda: facts))
    assert chunks._codec(stated) is None  # whatever the library refuses before


@pytest.mark.parametrize("codec", ["zstd", "blosc", "gzip", "v2 blosc", "v2 lz4"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "shorter", "longer"])
def test_damaged_packed_chunks_name_their_file(codec: str, damage: str, tmp_path: Path) -> None:
    def chunk(path: str) -> Path:
        files = (p for p in Path(path).rglob("*") if p.is_file() and not p.name.startswith((".z", "zarr")))
        return sorted(files)[-1]

    array = scores(7, 4500, 3)
    broken = chunk(path := write_packed(tmp_path, array, codec))
    data = broken.read_bytes()
    if damage in ("shorter", "longer"):
        (tmp_path / "other").mkdir()
        other = write_packed(tmp_path / "other", array, codec, {"shorter": 900, "longer": 1100}[damage])
        data = chunk(other).read_bytes()
    broken.write_bytes({"truncated": data[:-20], "empty": b""}.get(damage, data))
    with pytest.raises(rc.InvalidInputError, match="the chunk cannot be decoded") as caught:
        rc.profile(rc.open_predictions(path), metrics="pass")
    assert str(broken) in str(caught.value)
