"""The leaf loops as other platforms get them: plain C, warnings as errors, and the same bits as on this processor.

Needs a checkout and a C compiler; an arm64 compiler and its emulator make it an arm64 test as well.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CSRC = ROOT / "rashomon_core" / "csrc"
FLAGS = [
    "-O1",
    "-std=c11",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wvla",
    "-Werror",
]
FLAGS += ["-Wno-unused-function", "-Wno-unused-parameter", "-Wno-unknown-pragmas"]
ARM, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CSRC.is_dir(), reason="the C sources are not beside tests/"),
]


def answers(folder: Path, compiler: str, *more: str, emulator: str | None = None) -> list[str]:
    """Compile the leaves and run them; return what each table says."""
    if shutil.which(compiler) is None or (emulator is not None and shutil.which(emulator) is None):
        pytest.skip(f"{' and '.join(filter(None, (compiler, emulator)))} are not installed")
    program = folder / "leaves"
    sources = [str(Path(__file__).with_name("leaves.c")), str(CSRC / "dispatch.c")]
    command = [compiler, *FLAGS, *more, f"-I{CSRC}", *sources, "-o", str(program), "-lm"]
    built = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert built.returncode == 0, built.stderr
    ran = subprocess.run(
        [*([emulator] if emulator else []), str(program)], capture_output=True, text=True, check=True, timeout=300
    )
    return ran.stdout.strip().split("\n\n")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    (only,) = answers(tmp_path_factory.mktemp("plain"), "cc", "-DRC_X86=0")
    assert "certified 64" in only
    return only


def test_every_instruction_set_answers_like_plain_c(plain: str, tmp_path: Path) -> None:
    found = answers(tmp_path, "cc")
    assert found
    assert found == [plain] * len(found)


def test_c_assertions_hold(plain: str, tmp_path: Path) -> None:
    assert answers(tmp_path, "cc", "-DRC_X86=0", "-UNDEBUG", "-fsanitize=undefined", "-fno-sanitize-recover") == [plain]


def test_clang_compiles_the_same(plain: str, tmp_path: Path) -> None:
    assert answers(tmp_path, "clang", "-DRC_X86=0") == [plain]


def test_arm64_answers_the_same(plain: str, tmp_path: Path) -> None:
    assert answers(tmp_path, ARM, "-static", emulator=EMULATOR) == [plain]
