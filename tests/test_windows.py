"""Windows of a file: what several share is brought in once, and all of it is given back."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rashomon_core.store import windows

Array = NDArray[Any]
pytestmark = pytest.mark.skipif(not windows.supported(), reason="this system maps no files under control")


def resident_file() -> int:
    """Return the bytes of files that are resident in this process."""
    with open("/proc/self/status", encoding="ascii") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("RssFile"))


@pytest.fixture
def numbered(tmp_path: Path) -> Iterator[tuple[int, Array]]:
    """A file of 64 MB, open, and its numbers."""
    found = np.random.default_rng(6).integers(0, 1 << 62, 8_000_003)
    with open(tmp_path / "x", "wb") as f:
        f.write(found.tobytes())
    with open(tmp_path / "x", "rb") as f:
        yield f.fileno(), found


#: Numbers of a run, and bytes of code that this process may bring in meanwhile.
RUN, CODE = 200_000, 1 << 20


def opened_at(
    lent: windows.Windows, fd: int, starts: list[int], room: int, before: windows.Window | None = None
) -> windows.Window:
    """Open a window of runs from each of some numbers on."""
    found = lent.open(fd, 8 * np.array(starts, dtype=np.int64), 8 * RUN, room, before)
    assert found is not None
    return found


def values(window: windows.Window, numbers: int = RUN) -> Array:
    return window.array((numbers,), np.dtype(np.int64), (8,))


def test_neighbouring_windows_share_what_they_bring_in(numbered: tuple[int, Array]) -> None:
    fd, expected = numbered
    lent, empty = windows.Windows(), resident_file()
    starts = list(range(5, 7_000_000, 1_000_000))
    first = opened_at(lent, fd, starts, 1 << 30)
    second = opened_at(lent, fd, [k + RUN for k in starts], 1 << 30)
    both = resident_file()
    assert both - empty > 2 * 8 * RUN * len(starts)
    assert np.array_equal(values(first), expected[5 : 5 + RUN])
    assert np.array_equal(values(second), expected[5 + RUN : 5 + 2 * RUN])
    for _ in range(2):  # the second time does nothing
        first.release()
        assert abs(resident_file() - both) < CODE
    second.release()
    assert resident_file() < empty + CODE


def test_a_window_takes_the_place_of_another_where_there_is_no_room_for_both(numbered: tuple[int, Array]) -> None:
    fd, expected = numbered
    lent, empty = windows.Windows(), resident_file()
    room = 2 * windows.HUGE
    before = opened_at(lent, fd, [0], room)
    for start in range(0, 7_500_000, 250_000):
        before = opened_at(lent, fd, [start], room, before)
        assert np.array_equal(values(before), expected[start : start + RUN])
        assert 8 * RUN - CODE < resident_file() - empty < room + CODE
    assert lent.open(fd, np.arange(0, 60_000_000, 10_000_000), 8 * RUN, room, before) is None  # more than the room
    before.release()
    assert resident_file() < empty + CODE
    held = opened_at(lent, fd, [0, 1_000_000], 1 << 30)
    assert resident_file() > empty + CODE
    del held  # nobody gave it back
    assert resident_file() < empty + CODE


def test_windows_of_several_threads(numbered: tuple[int, Array], monkeypatch: pytest.MonkeyPatch) -> None:
    fd, expected = numbered
    monkeypatch.setattr(windows, "SHARED", 16 << 20)
    lent, empty = windows.Windows(), resident_file()
    wrong: list[int] = []

    def work(seed: int) -> None:
        rng, window = np.random.default_rng(seed), None
        for _ in range(200):
            start = int(rng.integers(0, 7_000_000))
            window = opened_at(lent, fd, [start, start + 500_000], 1 << 30, window)
            found = values(window, 500_000 + RUN)
            for at in (0, RUN - 1, 500_000, 500_000 + RUN - 1):
                if found[at] != expected[start + at]:
                    wrong.append(start + at)
            if rng.random() < 0.2:
                window.release()
        assert window is not None
        window.release()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    gc.collect()
    assert resident_file() < empty + CODE


def test_a_window_beyond_the_end_of_a_file_is_refused(numbered: tuple[int, Array]) -> None:
    fd, _ = numbered
    lent, empty = windows.Windows(), resident_file()
    with pytest.raises(ValueError, match="too short"):
        opened_at(lent, fd, [7_900_000], 1 << 30)
    first = opened_at(lent, fd, [0], 1 << 30)
    os.truncate(f"/proc/self/fd/{fd}", 32_000_000)
    with pytest.raises(OSError, match="address"):
        opened_at(lent, fd, [7_000_000], 1 << 30, first)
    assert resident_file() < empty + CODE  # the first was given back for it
    short = opened_at(lent, fd, [0], 1 << 30)  # maps what is left
    with pytest.raises(ValueError, match="too short"):
        opened_at(lent, fd, [7_000_000], 1 << 30, short)
    short = opened_at(lent, fd, [0], 1 << 30)
    os.truncate(f"/proc/self/fd/{fd}", 64_000_000)
    longer = opened_at(lent, fd, [7_000_000], 1 << 30, short)
    assert not values(longer).any()
    longer.release()
    assert resident_file() < empty + CODE


def test_nobody_counts_for_two_mappings(numbered: tuple[int, Array], monkeypatch: pytest.MonkeyPatch) -> None:
    """While a window is brought in, which may take long, others move on: there is no more than a room for each."""
    fd, expected = numbered
    lent, empty, room = windows.Windows(), resident_file(), 2 * windows.HUGE
    one = opened_at(lent, fd, [0], room)
    other = opened_at(lent, fd, [100_000], room)
    other = opened_at(lent, fd, [2_000_000], room, other)
    plain, most = windows._advise, [0]

    def slow(address: int, offsets: Array, length: int, advice: int) -> int:
        nonlocal other
        if advice != windows._POPULATE_READ:
            return plain(address, offsets, length, advice)
        monkeypatch.setattr(windows, "_advise", plain)
        other = opened_at(lent, fd, [4_000_000], room, other)
        most[0] = resident_file()
        return plain(address, offsets, length, advice)

    monkeypatch.setattr(windows, "_advise", slow)
    one = opened_at(lent, fd, [2_100_000], room, one)
    assert windows._advise is plain
    assert max(most[0], resident_file()) - empty < 2 * room + CODE
    assert np.array_equal(values(one), expected[2_100_000 : 2_100_000 + RUN])
    assert np.array_equal(values(other), expected[4_000_000 : 4_000_000 + RUN])
    one.release()
    other.release()
    assert resident_file() < empty + CODE
