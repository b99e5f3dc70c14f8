"""What every test needs: an installed package, each instruction set in turn, real data, profiles."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]

# The kernels are quick but their oracle is not, and machines are shared: time is no reason to fail.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, max_examples=15)
# Loaded here and not in pytest_configure, so that --hypothesis-profile has the last word.
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))


def _why_not_installed() -> str | None:
    try:
        package = importlib.import_module("rashomon_core")
    except ModuleNotFoundError as error:
        if error.name != "rashomon_core":
            raise
        return "rashomon_core is not installed"
    # The folder of compiled sources beside pyproject.toml has the package's name and no __init__.py:
    # without an installation it is imported as an empty namespace package.
    if package.__file__ is None:
        return "rashomon_core is only the folder of sources, not the package"
    if importlib.util.find_spec("rashomon_core._cpu") is None:
        return f"the package at {Path(package.__file__).parent} has no compiled modules"
    return None


def pytest_configure(config: pytest.Config) -> None:
    why = _why_not_installed()
    if why is not None:
        raise pytest.UsageError(f"install first: {why}. Fix: pip install -e '{ROOT}[test]'")
    # in the background of a script Ctrl-C is ignored, here and in every process that tests start
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def selected_isa(name: str) -> Iterator[None]:
    """Run the block on one instruction set and go back to the one before."""
    import rashomon_core as rc

    before = rc.isa_active()
    rc.isa_select(name)
    try:
        yield
    finally:
        rc.isa_select(before)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with an argument `isa` runs once for each instruction set of this machine, and gets its name."""
    if "isa" in metafunc.fixturenames:
        import rashomon_core as rc

        metafunc.parametrize("isa", list(rc.isa_available()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Select the instruction set around the test alone.

    Not a fixture: one of function scope does not go with Hypothesis, and a wider one would leave its
    choice on while other tests run.
    """
    callspec = getattr(item, "callspec", None)
    if callspec is None or "isa" not in callspec.params:
        return (yield)
    with selected_isa(callspec.params["isa"]):
        return (yield)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Find the folder of real data sets: RASHOMON_CORE_DATA, else ../shared/data beside the checkout."""
    named = os.environ.get("RASHOMON_CORE_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not a folder (set RASHOMON_CORE_DATA)")
    return folder
