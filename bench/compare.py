"""Put a bench run beside a stored baseline, as ratios to each run's own anchors, never seconds against seconds.

    python bench/compare.py                            # the newest run in .benchmarks beside a baseline of its machine
    python bench/compare.py RUN.json --fail-above 10   # exit code 1 where a row is worse by over 10 %, beyond noise
    python bench/compare.py --save-baseline --markdown docs/performance.md   # a new baseline, and the docs' table

A row is *noise* when the middle halves of its rounds overlap in the two runs. Rows in seconds or bytes explain the
others: they are shown, and only those with a target get a verdict (*holds*, *missed*). bench/README.md has the units.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BASELINE = ROOT / "bench" / "baseline.json"
SCHEMA = "rashomon-core bench baseline"
BEGIN, END = "<!-- ratios: begin -->", "<!-- ratios: end -->"
WIDTH = 80
#: Units of ratios to an anchor of the same run. All others are absolute.
RATIOS = ("of bandwidth", "of popcount peak", "times", "of its time", "of linear", "of reading", "per doubling", "%")
#: Ratios that are better when they are smaller. Others are where their row says ``at_most``.
LESS = ("of its time", "of linear", "per doubling", "%")
#: A row of one round has no middle half: it is taken to be this much off either way.
ALONE = 0.05
#: Facts that decide whether two runs are about the same machine.
MACHINE = ("processor", "instruction_set", "cores", "architecture")


class Refused(Exception):
    """What was given cannot be compared; the message says why and what to do."""


@dataclass(frozen=True)
class Row:
    """A number of a run: the median of its rounds, their middle half, and its target."""

    bench: str
    case: str
    name: str
    unit: str
    value: float
    low: float
    high: float
    at_most: bool
    target: float | None

    @property
    def is_ratio(self) -> bool:
        """Whether the number is relative to an anchor of its own run."""
        return self.unit in RATIOS

    @property
    def less_is_better(self) -> bool:
        """Whether a smaller number is the better one."""
        return self.at_most or self.unit in LESS

    @property
    def holds(self) -> bool:
        """Whether the target, which must be there, is met."""
        assert self.target is not None
        return self.value <= self.target if self.at_most else self.value >= self.target

    @property
    def middle(self) -> tuple[float, float]:
        """The middle half of the rounds; of a single round, a guess."""
        if self.low != self.high:
            return self.low, self.high
        off = ALONE * abs(self.value)
        return self.value - off, self.value + off


@dataclass(frozen=True)
class Run:
    """What a run or a baseline holds: facts of the machine, sizes of the benches, rows in their order."""

    facts: dict[str, Any]
    rows: dict[tuple[str, str, str, int], Row]


@dataclass(frozen=True)
class Change:
    """A row in both runs, or in one of them."""

    before: Row | None
    now: Row | None

    @property
    def row(self) -> Row:
        """The newer row there is."""
        found = self.now or self.before
        assert found is not None
        return found

    @property
    def percent(self) -> float | None:
        """How much the number changed; None where that says nothing."""
        if self.before is None or self.now is None or not self.before.value > 0:
            return None
        return 100 * (self.now.value / self.before.value - 1)

    @property
    def worse_by(self) -> float:
        """Per cent of the baseline that the number is worse by, beyond noise; 0 where it is not worse.

        Of a baseline of 0 or less, such as a cost within the noise, there are no per cents: infinity.
        """
        if self.before is None or self.now is None or self.is_noise:
            return 0.0
        if self.percent is None:
            grew = self.now.value > self.before.value
            return float("inf") if grew == self.row.less_is_better else 0.0
        return max(0.0, self.percent if self.row.less_is_better else -self.percent)

    @property
    def is_noise(self) -> bool:
        """Whether the middle halves of the rounds overlap."""
        assert self.before is not None
        assert self.now is not None
        return self.before.middle[0] <= self.now.middle[1] and self.now.middle[0] <= self.before.middle[1]

    @property
    def verdict(self) -> str:
        """One of faster, slower, noise, new, gone; of absolute numbers with a target holds or missed; or nothing."""
        if self.now is None:
            return "gone"
        if self.before is None:
            return "new"
        if not self.row.is_ratio:
            return "" if self.now.target is None else "holds" if self.now.holds else "missed"
        if self.is_noise:
            return "noise"
        return "slower" if self.worse_by > 0 else "faster"

    def fails(self, percent: float) -> bool:
        """Whether the change is worse than asked; an absolute number also where it met its target and now misses it."""
        if self.before is not None and self.verdict == "missed" and replace(self.row, value=self.before.value).holds:
            return True
        return self.verdict in ("slower", "missed") and self.worse_by > percent


# ----------------------------------------------------------------------------------------------------
# Reading


def load_json(path: Path) -> dict[str, Any]:
    """Read one JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Refused(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise Refused(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(found, dict):
        raise Refused(f"{path}: holds no JSON object")
    return found


def keyed(rows: Iterable[Row]) -> dict[tuple[str, str, str, int], Row]:
    """Rows by bench, case and name; a name that comes twice in a case is numbered."""
    found: dict[tuple[str, str, str, int], Row] = {}
    for row in rows:
        count = 0
        while (row.bench, row.case, row.name, count) in found:
            count += 1
        found[row.bench, row.case, row.name, count] = row
    return found


def read_run(paths: Sequence[Path]) -> Run:
    """Read what pytest-benchmark kept of one run, or of its parts; a case in a later file replaces the earlier one."""
    facts: dict[str, Any] = {}
    cases: dict[tuple[str, str], list[Row]] = {}
    for path in paths:
        found = load_json(path)
        own = found.get("facts")
        if not isinstance(own, dict) or not isinstance(found.get("benchmarks"), list):
            raise Refused(f"{path}: not a run of this bench suite. Fix: pytest bench --benchmark-only, then its JSON")
        for key in ("sizes", "clock", *MACHINE):
            if key in facts and facts[key] != own.get(key):
                raise Refused(f"{path}: its {key} are not those of the files before it, so it is another run")
        load = max(float(facts.get("load", 0.0)), float(own.get("load", 0.0)))
        facts = {**facts, **own, "load": load, "recorded": str(found.get("datetime", ""))[:10]}
        for bench in found["benchmarks"]:
            file, _, case = str(bench["fullname"]).partition("::")
            key = (Path(file).stem, case)
            kept = [{f.name: item.get(f.name) for f in fields(Row)} for item in bench["extra_info"].get("ratios", [])]
            cases[key] = [Row(**{**item, "bench": key[0], "case": case}) for item in kept]
    return Run(facts, keyed(row for rows in cases.values() for row in rows))


def newest_run(folder: Path) -> Path:
    """Return the newest JSON file of a folder."""
    found = sorted(folder.rglob("*.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise Refused(f"{folder}: holds no run yet. Fix: pytest bench --benchmark-only")
    return found[-1]


def read_baseline(path: Path) -> Run:
    """Read a baseline."""
    found = load_json(path)
    if found.get("schema") != SCHEMA or not isinstance(found.get("rows"), list):
        raise Refused(f"{path}: not a baseline. Fix: python bench/compare.py RUN.json --save-baseline")
    return Run(found["facts"], keyed(Row(**item) for item in found["rows"]))


def baseline_for(now: Run, folder: Path) -> Path:
    """Return the baseline of a folder that is from such a machine, else ``baseline.json``."""
    usual = folder / BASELINE.name
    for path in [usual, *sorted(folder.glob("baseline_*.json"))]:
        if path.is_file() and all(read_baseline(path).facts.get(key) == now.facts.get(key) for key in MACHINE):
            return path
    return usual


# ----------------------------------------------------------------------------------------------------
# Writing


def short(value: float) -> float:
    """Return a number with five digits: more would be noise."""
    return float(f"{value:.5g}")


def baseline_text(run: Run) -> str:
    """Return the baseline of a run as text: a row to a line, so that a difference can be read."""
    rows = []
    for row in run.rows.values():
        item = asdict(row)
        item.update({key: short(item[key]) for key in ("value", "low", "high")})
        rows.append("  " + json.dumps(item, ensure_ascii=False))
    facts = json.dumps(run.facts, indent=1, ensure_ascii=False)
    return f'{{"schema": "{SCHEMA}", "facts": {facts},\n "rows": [\n' + ",\n".join(rows) + "\n]}\n"


def digits(value: float) -> str:
    """Print three digits or more."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def machine_line(facts: dict[str, Any]) -> str:
    """Say in one line where a run was made."""
    libraries = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"{facts['processor']}, {facts['cores']} cores, instruction set {facts['instruction_set']}; {libraries}; "
        f"{facts['recorded']}"
    )


def other_work(facts: dict[str, Any]) -> bool:
    """Whether more ran at the start than the bench itself."""
    return float(facts["load"]) > 0.5 * float(facts["cores"])


def warnings_of(before: Run, now: Run) -> list[str]:
    """Say what makes two runs hard to compare."""
    said = []
    for key in MACHINE:
        if before.facts.get(key) != now.facts.get(key):
            said.append(f"another {key.replace('_', ' ')}: {before.facts.get(key)} then, {now.facts.get(key)} now")
    old, new = before.facts["sizes"], now.facts["sizes"]
    sizes = [f"{key} ({old.get(key)}, now {new.get(key)})" for key in {**old, **new} if old.get(key) != new.get(key)]
    if sizes:
        said.append(f"other sizes: {', '.join(sizes)}")
    if before.facts.get("clock") != now.facts.get("clock"):
        said.append(f"another clock: {before.facts.get('clock')} then, {now.facts.get('clock')} now")
    for name, run in (("the baseline", before), ("this run", now)):
        if other_work(run.facts):
            said.append(f"other work ran when {name} began (load {run.facts['load']:.1f})")
    return said


def changes_of(before: Run, now: Run) -> tuple[list[Change], list[str]]:
    """Pair the rows, in the order of the run, and name the benches of the baseline that were not run."""
    run = {key[0] for key in now.rows}
    missing = sorted({key[0] for key in before.rows} - run)
    changes = [Change(before.rows.get(key), row) for key, row in now.rows.items()]
    changes += [Change(row, None) for key, row in before.rows.items() if key not in now.rows and key[0] in run]
    place = {name: i for i, name in enumerate(dict.fromkeys(key[0] for key in now.rows))}
    return sorted(changes, key=lambda change: place[change.row.bench]), missing


def table_lines(changes: Sequence[Change]) -> list[str]:
    """Return the table, no line longer than WIDTH."""
    name_width = WIDTH - 49

    def line(*cells: str) -> str:
        name, before, now, change, middle, verdict = cells
        return f"{name:<{name_width}} {before:>8} {now:>8} {change:>7} {middle:>15} {verdict:<6}".rstrip()

    lines = [line("", "baseline", "this run", "change", "middle half", ""), "-" * WIDTH]
    bench = None
    for change in changes:
        row = change.row
        if row.bench != bench:
            bench = row.bench
            lines.append(bench)
        title = f"{row.name.strip()}, {row.unit}" if row.unit else row.name.strip()
        inner = 1 + len(row.name) - len(row.name.lstrip())
        wrapped = textwrap.wrap(title, name_width - inner - 1) or [""]
        wrapped = [" " * (inner + (i > 0)) + part for i, part in enumerate(wrapped)]
        lines += wrapped[:-1]
        percent = "" if change.percent is None else f"{round(change.percent, 1) + 0.0:+.1f}%"
        percent = percent if len(percent) <= 7 else "large"
        lines.append(
            line(
                wrapped[-1],
                "" if change.before is None else digits(change.before.value),
                "" if change.now is None else digits(change.now.value),
                percent,
                "" if change.now is None or row.low == row.high else f"{digits(row.low)}..{digits(row.high)}",
                change.verdict,
            )
        )
    return lines


def markdown_table(run: Run) -> str:
    """Return the ratios of a run, and what has a target, as a table for the docs."""
    facts = run.facts
    lines = [f"Measured: {machine_line(facts)}. Median over the rounds, in brackets their middle half."]
    if other_work(facts):
        lines += ["", f"Other work ran on the machine when this began (load {facts['load']:.1f})."]
    changed = ", ".join(f"{name} {facts['sizes'][name]:,}" for name in facts["changed_sizes"])
    usual = f"Not taken at the usual sizes of bench/README.md: {changed}."
    lines += [
        "",
        usual if changed else "Taken at the usual sizes of bench/README.md.",
        "",
        "| bench | what | value | unit | target |",
        "|---|---|---:|---|---|",
    ]
    bench = None
    for row in run.rows.values():
        if not row.is_ratio and row.target is None:
            continue
        name = row.name.strip().replace("|", "\\|")
        value = digits(row.value) + ("" if row.low == row.high else f" ({digits(row.low)}..{digits(row.high)})")
        target = ""
        if row.target is not None:
            target = (
                f"{'at most' if row.at_most else 'at least'} {digits(row.target)}: {'holds' if row.holds else 'missed'}"
            )
        cell = f"`{row.bench}`" if row.bench != bench else ""
        unit = row.unit.replace("*", "\\*")
        lines.append(f"| {cell} | {name} | {value} | {unit} | {target} |")
        bench = row.bench
    return "\n".join(lines)


def put_between(text: str, table: str, where: str) -> str:
    """Replace what stands between the two marks of a page."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise Refused(f"{where}: needs {BEGIN!r} and after it {END!r}, each once")
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}"


def table_of_page(text: str, where: str) -> str:
    """Return what stands between the two marks of a page."""
    put_between(text, "", where)
    return text.partition(BEGIN)[2].partition(END)[0].strip()


# ----------------------------------------------------------------------------------------------------
# The command


def parse(args: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="*", type=Path, help="JSON of a run, or of its parts; default: the newest one")
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="FILE",
        help="default: that of bench/baseline*.json which is of this machine, else bench/baseline.json",
    )
    parser.add_argument("--fail-above", type=float, metavar="PERCENT", help="exit code 1 where a row is worse by more")
    parser.add_argument("--save-baseline", action="store_true", help="write the baseline from the run")
    parser.add_argument(
        "--markdown", type=Path, metavar="PAGE", help="put the baseline's table into a page ('-': print it)"
    )
    return parser.parse_args(args)


def command(args: Sequence[str] | None = None) -> int:
    """Compare, or keep; return the exit code."""
    given = parse(args)
    keeps = given.save_baseline or given.markdown is not None
    if keeps and given.fail_above is not None:
        raise Refused("--fail-above compares; --save-baseline and --markdown do not: run them one after another")
    if given.save_baseline or not keeps:
        now = read_run(given.run or [newest_run(ROOT / ".benchmarks")])
    elif given.run:
        raise Refused("--markdown shows the baseline. Fix: add --save-baseline, or leave the run out")
    path = given.baseline or (BASELINE if keeps else baseline_for(now, BASELINE.parent))
    if given.save_baseline:
        if not now.rows:
            raise Refused("the run holds no row to keep")
        path.write_text(baseline_text(now), encoding="utf-8")
        print(f"{path}: {len(now.rows)} rows", file=sys.stderr)
        if other_work(now.facts):
            print(f"warning: other work ran when it began (load {now.facts['load']:.1f})", file=sys.stderr)
    before = read_baseline(path)
    if given.markdown is not None:
        table = markdown_table(before)
        if str(given.markdown) == "-":
            print(table)
        else:
            page = given.markdown.read_text(encoding="utf-8")
            given.markdown.write_text(put_between(page, table, str(given.markdown)), encoding="utf-8")
    if keeps:
        return 0
    for name, run in (("baseline", before), ("this run", now)):
        print(textwrap.fill(f"{name}: {machine_line(run.facts)}", WIDTH, subsequent_indent="  "))
    for said in warnings_of(before, now):
        print(textwrap.fill(f"warning: {said}", WIDTH, subsequent_indent="  "))
    changes, missing = changes_of(before, now)
    print("\n".join(["", *table_lines(changes)]))
    if missing:
        print(textwrap.fill(f"not run: {', '.join(missing)}", WIDTH, subsequent_indent="  "))
    counts = {word: sum(c.verdict == word for c in changes) for word in ("faster", "slower", "noise", "new", "gone")}
    print(", ".join(f"{count} {word}" for word, count in counts.items()))
    failed = [] if given.fail_above is None else [change for change in changes if change.fails(given.fail_above)]
    for change in failed:
        what = f"worse by {change.worse_by:.1f} %" if change.worse_by > given.fail_above else "misses its target"
        said = f"{what}: {change.row.bench}: {change.row.name.strip()}"
        print(textwrap.fill(said, WIDTH, subsequent_indent="  "))
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(command())
    except Refused as refused:
        print(f"error: {refused}", file=sys.stderr)
        sys.exit(2)
