"""bench/compare.py: pairs rows, tells a change from noise, and fails only when asked to."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "bench" / "compare.py").is_file():
    pytest.skip("bench/compare.py is not beside tests/", allow_module_level=True)


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_compare", ROOT / "bench" / "compare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


compare = load()
FACTS: dict[str, Any] = {
    "processor": "Some Processor",
    "instruction_set": "avx2",
    "cores": 2,
    "architecture": "x86_64",
    "system": "Linux",
    "versions": {"Python": "3.11.0", "NumPy": "2.0.0"},
    "sizes": {"ROUNDS": 11},
    "changed_sizes": [],
    "clock": "wall",
    "load": 0.0,
}


def row(name: str, value: float, unit: str = "times", spread: float = 0.02, **more: Any) -> dict[str, Any]:
    """Return a row as bench/conftest.py writes it."""
    low, high = value * (1 - spread), value * (1 + spread)
    return {
        "name": name, "value": value, "unit": unit, "target": None, "at_most": False, "low": low, "high": high,
        "verdict": "", **more,
    }  # fmt: skip


def write(path: Path, *rows: dict[str, Any], bench: str = "bench_made", facts: dict[str, Any] | None = None) -> Path:
    """Write a run of one bench as pytest-benchmark does, with what a run should not give away."""
    document = {
        "machine_info": {"node": "secret-host", "python_version": "3.11.0"},
        "commit_info": {"project": "secret-folder", "branch": "secret-branch"},
        "benchmarks": [{"fullname": f"bench/{bench}.py::bench_it[1]", "extra_info": {"ratios": list(rows)}}],
        "datetime": "2026-01-02T03:04:05+00:00",
        "facts": facts or FACTS,
    }
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return {"run": tmp_path / "run.json", "base": tmp_path / "base.json"}


def keep(files: dict[str, Path], *rows: dict[str, Any]) -> None:
    run = write(files["run"].with_name("before.json"), *rows)
    assert compare.command([str(run), "--save-baseline", "--baseline", str(files["base"])]) == 0


def against(files: dict[str, Path], *rows: dict[str, Any], more: tuple[str, ...] = (), **options: Any) -> int:
    write(files["run"], *rows, **options)
    code: int = compare.command([str(files["run"]), "--baseline", str(files["base"]), *more])
    return code


def verdicts(files: dict[str, Path]) -> dict[str, str]:
    changes, _ = compare.changes_of(compare.read_baseline(files["base"]), compare.read_run([files["run"]]))
    return {change.row.name: change.verdict for change in changes}


def test_verdicts(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    keep(
        files,
        row("up", 10.0),
        row("down", 10.0),
        row("near", 10.0),
        row("cost up", 1.0, "of its time"),
        row("cost down", 1.0, at_most=True, target=2.0),
        row("seconds", 1.0, "s"),
        row("memory", 20.0, "MB", target=96.0, at_most=True),
        row("pairs", 95.0, "1e9 pairs*N/s", target=90.0),
        row("old", 1.0),
    )
    assert against(
        files,
        row("up", 11.0),
        row("down", 9.0),
        row("near", 10.3),
        row("cost up", 1.2, "of its time"),
        row("cost down", 0.8, at_most=True, target=2.0),
        row("seconds", 5.0, "s"),
        row("memory", 40.0, "MB", target=96.0, at_most=True),
        row("pairs", 80.0, "1e9 pairs*N/s", target=90.0),
        row("young", 1.0),
    ) == 0  # fmt: skip
    assert verdicts(files) == {
        "up": "faster",
        "down": "slower",
        "near": "noise",
        "cost up": "slower",
        "cost down": "faster",
        "seconds": "",
        "memory": "holds",
        "pairs": "missed",
        "young": "new",
        "old": "gone",
    }
    printed = capsys.readouterr().out
    assert "+10.0%" in printed
    assert "2 faster, 2 slower, 1 noise, 1 new, 1 gone" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_middle_halves_that_touch_are_noise(files: dict[str, Path]) -> None:
    keep(files, row("touch", 10.0, low=9.0, high=11.0), row("apart", 10.0, low=9.0, high=11.0))
    against(files, row("touch", 12.0, low=11.0, high=13.0), row("apart", 12.0, low=11.001, high=13.0))
    assert verdicts(files) == {"touch": "noise", "apart": "faster"}


def test_one_round_is_taken_to_be_five_per_cent_off(files: dict[str, Path]) -> None:
    keep(files, row("a", 10.0, spread=0), row("b", 10.0, spread=0))
    against(files, row("a", 9.1, spread=0), row("b", 8.9, spread=0))
    assert verdicts(files) == {"a": "noise", "b": "slower"}


@pytest.mark.parametrize(("value", "percent", "code"), [(8.0, 10, 1), (8.0, 25, 0), (9.8, 1, 0), (12.0, 10, 0)])
def test_fails_only_when_asked(
    files: dict[str, Path], value: float, percent: float, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(files, row("it", 10.0))
    assert against(files, row("it", value)) == 0
    assert against(files, row("it", value), more=("--fail-above", str(percent))) == code
    assert ("worse by 20.0 %" in capsys.readouterr().out) == (code == 1)


def test_seconds_fail_by_their_target_alone(files: dict[str, Path]) -> None:
    keep(files, row("help", 0.3, "s", target=0.4, at_most=True), row("explains", 0.3, "s"))
    more = ("--fail-above", "10")
    assert against(files, row("help", 0.39, "s", target=0.4, at_most=True), row("explains", 9.0, "s"), more=more) == 0
    assert against(files, row("help", 0.50, "s", target=0.4, at_most=True), row("explains", 0.3, "s"), more=more) == 1


@pytest.mark.parametrize(("before", "now"), [(0.39, 0.41), (0.399, 0.401)])
def test_seconds_that_just_miss_a_target_they_held_fail(
    files: dict[str, Path], before: float, now: float, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(files, row("help", before, "s", target=0.4, at_most=True))
    assert against(files, row("help", now, "s", target=0.4, at_most=True), more=("--fail-above", "10")) == 1
    assert "misses its target: " in capsys.readouterr().out
    assert against(files, row("help", now, "s", target=0.4, at_most=True)) == 0


def test_new_gone_and_missed_from_the_start_do_not_fail(files: dict[str, Path]) -> None:
    keep(files, row("gone", 1.0), row("slow", 100.0, "MB", target=96.0, at_most=True))
    now = (row("new", 1.0), row("slow", 100.0, "MB", target=96.0, at_most=True))
    assert against(files, *now, more=("--fail-above", "0")) == 0
    assert verdicts(files) == {"new": "new", "gone": "gone", "slow": "missed"}


def test_benches_that_were_not_run_are_not_gone(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    keep(files, row("it", 10.0))
    against(files, row("other", 10.0), bench="bench_else")
    assert verdicts(files) == {"other": "new"}
    assert "not run: bench_made" in capsys.readouterr().out


def test_rows_of_one_name_are_told_apart(files: dict[str, Path]) -> None:
    keep(files, row("one sample", 1.0), row("one sample", 5.0))
    against(files, row("one sample", 1.0), row("one sample", 4.0))
    changes, _ = compare.changes_of(compare.read_baseline(files["base"]), compare.read_run([files["run"]]))
    assert [change.verdict for change in changes] == ["noise", "slower"]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("processor", "Another", "another processor"),
        ("instruction_set", "avx512", "another instruction set: avx2 then, avx512 now"),
        ("sizes", {"ROUNDS": 3}, "other sizes: ROUNDS (11, now 3)"),
        ("clock", "cpu", "another clock"),
        ("load", 3.0, "other work ran when this run began"),
    ],
)
def test_warns_of_what_differs(
    files: dict[str, Path], key: str, value: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(files, row("it", 10.0))
    against(files, row("it", 10.0))
    assert "warning" not in capsys.readouterr().out
    against(files, row("it", 10.0), facts={**FACTS, key: value})
    assert f"warning: {said}" in capsys.readouterr().out


def test_baseline_keeps_no_names_of_people_or_machines(files: dict[str, Path]) -> None:
    keep(files, row("it", 1 / 3))
    text = files["base"].read_text(encoding="utf-8")
    assert "secret" not in text
    found = json.loads(text)
    assert set(found["facts"]) == {*FACTS, "recorded"}
    assert found["facts"]["recorded"] == "2026-01-02"
    assert found["rows"][0]["value"] == 0.33333
    assert set(found["rows"][0]) == {"bench", "case", "name", "unit", "value", "low", "high", "at_most", "target"}


def test_parts_of_a_run_are_one_run(tmp_path: Path) -> None:
    first = write(tmp_path / "a.json", row("it", 1.0), row("lost", 1.0))
    again = write(tmp_path / "b.json", row("it", 2.0), facts={**FACTS, "load": 1.5})
    other = write(tmp_path / "c.json", row("it", 3.0), bench="bench_else")
    run = compare.read_run([first, again, other])
    assert [(r.bench, r.name, r.value) for r in run.rows.values()] == [
        ("bench_made", "it", 2.0),
        ("bench_else", "it", 3.0),
    ]
    assert run.facts["load"] == 1.5
    foreign = write(tmp_path / "d.json", row("it", 1.0), facts={**FACTS, "cores": 4})
    with pytest.raises(compare.Refused, match="cores"):
        compare.read_run([first, foreign])


def test_newest_run_is_taken(tmp_path: Path) -> None:
    with pytest.raises(compare.Refused, match="holds no run yet"):
        compare.newest_run(tmp_path)
    (tmp_path / "machine").mkdir()
    for k, name in enumerate(("0002.json", "0001.json")):
        os.utime(write(tmp_path / "machine" / name, row("it", 1.0)), (k, k))
    assert compare.newest_run(tmp_path).name == "0001.json"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"facts": {}}', '{"benchmarks": []}', '{"rows": []}', "\xff"])
def test_refuses_what_is_neither(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(compare.Refused):
        compare.read_run([path])
    with pytest.raises(compare.Refused):
        compare.read_baseline(path)
    with pytest.raises(compare.Refused, match="no such file"):
        compare.read_baseline(tmp_path / "none.json")


def test_options_that_do_not_go_together(files: dict[str, Path]) -> None:
    keep(files, row("it", 1.0))
    base = ["--baseline", str(files["base"])]
    with pytest.raises(compare.Refused, match="one after another"):
        compare.command([*base, "--markdown", "-", "--fail-above", "1"])
    with pytest.raises(compare.Refused, match="shows the baseline"):
        compare.command([str(files["run"]), *base, "--markdown", "-"])


def test_table_goes_between_the_marks(files: dict[str, Path], tmp_path: Path) -> None:
    keep(
        files,
        row("it|self", 2.0, target=1.0),
        row("seconds", 1.0, "s"),
        row("start", 0.5, "s", target=0.4, at_most=True),
    )
    page = tmp_path / "page.md"
    for text in (f"above\n{compare.BEGIN}\nof before\n{compare.END}\nbelow\n",) * 2:
        page.write_text(text, encoding="utf-8")
        compare.command(["--baseline", str(files["base"]), "--markdown", str(page)])
        written = page.read_text(encoding="utf-8")
        assert written.startswith("above\n")
        assert written.endswith("\nbelow\n")
        assert "of before" not in written
        assert "| `bench_made` | it\\|self | 2.000 (1.960..2.040) | times | at least 1.000: holds |" in written
        assert "at most 0.400: missed" in written
        assert "seconds" not in written
        assert "Taken at the usual sizes" in written
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(compare.Refused, match="each once"):
        compare.command(["--baseline", str(files["base"]), "--markdown", str(page)])


def test_changed_sizes_are_said(files: dict[str, Path]) -> None:
    facts = copy.deepcopy(FACTS)
    facts["sizes"]["ROUNDS"], facts["changed_sizes"] = 3, ["ROUNDS"]
    write(files["run"], row("it", 1.0), facts=facts)
    assert "Not taken at the usual sizes of bench/README.md: ROUNDS 3." in compare.markdown_table(
        compare.read_run([files["run"]])
    )


def test_every_leaf_has_a_bench() -> None:
    header = ROOT / "rashomon_core" / "csrc" / "dispatch.h"
    table = header.read_text(encoding="utf-8").partition("typedef struct rc_table {")[2].partition("} rc_table;")[0]
    leaves = re.findall(r"\(\*(\w+)\)\(", table)
    assert len(leaves) > 40
    page = (ROOT / "bench" / "README.md").read_text(encoding="utf-8")
    assert not [leaf for leaf in leaves if not re.search(rf"\b{leaf}\b", page)], (
        "say in bench/README.md where it is timed"
    )
    named = set(re.findall(r"`(bench_\w+\.py)`", page))
    assert named == {path.name for path in (ROOT / "bench").glob("bench_*.py")}


def test_the_baseline_of_such_a_machine_is_taken(files: dict[str, Path], tmp_path: Path) -> None:
    keep(files, row("a", 10.0))
    now = compare.read_run([write(files["run"], row("a", 10.0))])
    assert compare.baseline_for(now, tmp_path / "nowhere").name == "baseline.json"
    folder = tmp_path / "baselines"
    folder.mkdir()
    own = json.loads(files["base"].read_text(encoding="utf-8"))
    for name, processor in (("baseline.json", "another"), ("baseline_a.json", "a third"), ("baseline_b.json", None)):
        facts = own["facts"] | ({} if processor is None else {"processor": processor})
        (folder / name).write_text(json.dumps(own | {"facts": facts}), encoding="utf-8")
    assert compare.baseline_for(now, folder).name == "baseline_b.json"
    (folder / "baseline_b.json").unlink()
    assert compare.baseline_for(now, folder).name == "baseline.json"


@pytest.mark.parametrize("path", sorted(compare.BASELINE.parent.glob("baseline*.json")), ids=lambda path: path.name)
def test_baselines_can_be_read(path: Path) -> None:
    assert len(compare.read_baseline(path).rows) > 400


def test_page_shows_the_baseline() -> None:
    page = ROOT / "docs" / "performance.md"
    table = compare.table_of_page(page.read_text(encoding="utf-8"), page.name)
    if compare.BASELINE.is_file():
        assert table == compare.markdown_table(compare.read_baseline(compare.BASELINE)), (
            "Fix: python bench/compare.py --markdown docs/performance.md"
        )
    else:
        assert "|" not in table, "figures without a baseline they come from"


@pytest.mark.parametrize(("before", "verdict"), [(0.0, "slower"), (-1.0, "slower"), (39.5, "noise")])
def test_a_cost_that_was_nothing_can_grow(before: float, verdict: str) -> None:
    def cost(value: float) -> Any:
        return compare.Row("bench", "case", "overhead", "%", value, value - 1, value + 1, True, 5.0)

    change = compare.Change(cost(before), cost(40.0))
    assert change.verdict == verdict
    assert change.fails(10) == (verdict == "slower")
    assert compare.Change(cost(40.0), cost(-1.0)).verdict == "faster"
