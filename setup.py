"""Extension list and flags only; all metadata is in pyproject.toml.

Environment variables of the build:
RASHOMON_CORE_DEBUG=1      bounds checks, wraparound checks and C assertions on (the suite runs once so in CI)
RASHOMON_CORE_PORTABLE=1   plain C only, as arm64 and MSVC get it
"""

import os
import sys

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("RASHOMON_CORE_DEBUG", "0") not in ("", "0")
PORTABLE = os.environ.get("RASHOMON_CORE_PORTABLE", "0") not in ("", "0")
LIMITED_COMPILER = sys.platform == "win32"
# Each kind of build has a folder of its own: what another left behind would be taken for this one's.
BASE = "build" + "/debug" * DEBUG + "/portable" * PORTABLE

if LIMITED_COMPILER:
    FLAGS = ["/O2", "/fp:precise"]
else:
    # No fused multiply-add: results must be the same bits on every instruction set.
    FLAGS = ["-O1" if DEBUG else "-O3", "-std=c11", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden"]
    FLAGS += ["-Wall", "-Wno-unused-function", "-Wno-unknown-pragmas", "-UNDEBUG" if DEBUG else "-DNDEBUG"]
    FLAGS += [] if DEBUG else ["-g0"]  # Python's own flags may say -g: a fifth of the time

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": DEBUG,
    "initializedcheck": DEBUG,
    "cdivision": not DEBUG,
    "freethreading_compatible": True,
}

CSRC = "rashomon_core/csrc"
HEADERS = sorted(f"{CSRC}/{name}" for name in os.listdir(CSRC) if name.endswith(".h"))
# Only _cpu carries compiled leaves; the other modules reach them through its function table.
# What Cython adds for typed memoryviews is compiled once, not into every module: half the build, an eighth of the size.
SHARED = "_views"
NAMES = ["_cpu", "_encode", "_decisions", "_scores", "_sums", "_capacity", "_files"]
SOURCES = {name: [f"{CSRC}/dispatch.c"] if name == "_cpu" else [] for name in NAMES}

setup(
    ext_modules=cythonize(
        [
            Extension(
                f"rashomon_core.{name}",
                [f"rashomon_core/{name}.pyx", *extra],
                include_dirs=[CSRC],
                depends=HEADERS,
                extra_compile_args=FLAGS,
                define_macros=[("RC_X86", "0")] if PORTABLE else [],
            )
            for name, extra in SOURCES.items()
        ]
        + [Extension(f"rashomon_core.{SHARED}", [f"rashomon_core/{SHARED}.c"], extra_compile_args=FLAGS)],
        shared_utility_qualified_name=f"rashomon_core.{SHARED}",
        compiler_directives=DIRECTIVES,
        build_dir=f"{BASE}/cython",
    ),
    options={"build": {"build_base": BASE}, "build_ext": {"parallel": os.cpu_count() or 1}},
)
