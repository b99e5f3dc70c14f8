"""The wheels that cibuildwheel would build: every version and platform that is promised, and files that are there."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "setup.py").is_file():
    pytest.skip("not in a checkout: setup.py is not beside tests/", allow_module_level=True)
VERSIONS = ("3.11", "3.12", "3.13", "3.14", "3.14t")
PLATFORMS = {"linux": ("manylinux_x86_64", "musllinux_x86_64"), "macos": ("macosx_",), "windows": ("win_amd64",)}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_versions_are_those_of_the_classifiers(project: dict[str, Any]) -> None:
    promised = [c.rpartition(" ")[2] for c in project["project"]["classifiers"] if " :: Python :: 3." in c]
    assert promised == [v for v in VERSIONS if not v.endswith("t")]
    assert project["tool"]["cibuildwheel"]["build"] == [f"cp{v.replace('.', '')}-*" for v in VERSIONS]


def test_wheels_are_tested_with_what_is_there(project: dict[str, Any]) -> None:
    settings = project["tool"]["cibuildwheel"]
    tests = [word for word in settings["test-command"].split() if word.startswith("tests/")]
    assert tests
    for name in (*tests, *settings["test-sources"]):
        assert (ROOT / name).exists(), name
    asked = {name.split(">")[0] for name in settings["test-requires"]}
    assert asked == {"pytest", "hypothesis"}


@pytest.mark.slow
@pytest.mark.parametrize("platform", list(PLATFORMS))
def test_cibuildwheel_plans_them(platform: str) -> None:
    pytest.importorskip("cibuildwheel", reason="cibuildwheel is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "cibuildwheel", "--print-build-identifiers", "--platform", platform],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    planned = done.stdout.split()
    for version in VERSIONS:
        tag = f"cp{version.replace('.', '')}-"
        for kind in PLATFORMS[platform]:
            assert any(name.startswith(tag + kind) for name in planned), f"{tag}{kind} in {planned}"
    assert not [name for name in planned if name.startswith("pp") or name.endswith(("win32", "i686"))]


def test_modules_declare_that_they_need_no_gil() -> None:
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DIRECTIVES":
            assert isinstance(node.value, ast.Dict)
            given = {ast.literal_eval(k): v for k, v in zip(node.value.keys, node.value.values, strict=True) if k}
            assert ast.literal_eval(given["freethreading_compatible"]) is True
            return
    raise AssertionError("setup.py has no DIRECTIVES")


@pytest.mark.parametrize("name", ["_cpu", "_encode", "_decisions", "_scores", "_sums", "_capacity", "_files"])
def test_generated_code_has_the_slot(name: str) -> None:
    generated = ROOT / "build" / "cython" / "rashomon_core" / f"{name}.c"
    if not generated.is_file():
        pytest.skip("the modules were not built here: no generated code to look at")
    text = generated.read_text(encoding="utf-8")
    # without the directive the last branch, which holds where the compiler is told nothing, says Py_MOD_GIL_USED
    last = text.partition("#ifdef CYTHON_FREETHREADING_COMPATIBLE")[2].partition("#endif\n#else\n")[2].split("\n")[0]
    assert last == "#define __Pyx_FREETHREADING_COMPATIBLE Py_MOD_GIL_NOT_USED"
    assert "{Py_mod_gil, __Pyx_FREETHREADING_COMPATIBLE}" in text
