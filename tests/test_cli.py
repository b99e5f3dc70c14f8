"""The command: options, exit codes, JSON, text for people, and what it says about bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from typer.testing import CliRunner, Result

import rashomon_core as rc
from rashomon_core.cli import app
from rashomon_core.errors import UsageError
from rashomon_core.report.document import load_schema, parse_threshold
from rashomon_core.report.terminal import clean, percent, print_report

M, N = 5, 40
LINUX = sys.platform == "linux"


def run(*args: object, **environment: str) -> Result:
    env = {"COLUMNS": "80", "NO_COLOR": "1", "FORCE_COLOR": None, **environment}
    return CliRunner().invoke(app, [str(a) for a in args], env=env)


def spawn(*args: object, **options: Any) -> subprocess.Popen[str]:
    """Start the command in a process of its own; Ctrl-C must reach it even where this process ignores it."""
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from rashomon_core.cli import main; main()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "COLUMNS": "80", **options},
    )


def document(result: Result) -> dict[str, Any]:
    """Return the one JSON document that stdout is, checked against the schema."""
    assert result.exit_code == 0, result.stderr
    found, end = json.JSONDecoder().raw_decode(result.stdout)
    assert result.stdout[end:] == "\n"
    check_schema(found)
    return dict(found)


def check_schema(found: object) -> None:
    jsonschema.Draft202012Validator(load_schema()).validate(found)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def probs(rng: np.random.Generator) -> np.ndarray:
    return rng.dirichlet([1, 1, 1], size=(M, N)).astype(np.float32)


@pytest.fixture
def files(tmp_path: Path, rng: np.random.Generator, probs: np.ndarray) -> Path:
    """A folder of predictions and of everything that goes with them."""
    np.save(tmp_path / "p.npy", probs)
    np.save(tmp_path / "t.npy", rng.integers(0, 3, N))
    np.save(tmp_path / "y.npy", rng.integers(0, 3, N))
    np.save(tmp_path / "w.npy", rng.random(N))
    lines = [f"{i},{'fm'[i % 2]},{i % 3}" for i in range(N)]
    (tmp_path / "g.csv").write_text("sample_id,sex,race\n" + "\n".join(lines) + "\n")
    return tmp_path


# --- measuring ----------------------------------------------------------------------------------------------


def test_the_example_is_one_valid_document() -> None:
    pytest.importorskip("sklego")
    found = document(run("measure", "--example", "--json"))
    assert found["results"]["shape"] == {"models": 240, "samples": 1800, "classes": 2}
    assert found["results"]["ambiguity"]["reference"] == "target"
    assert found["results"]["fairness"]["groups"][0] == "colour=Black, sex=Female"
    assert [entry["role"] for entry in found["inputs"]] == ["predictions", "target"]
    assert found["software"] == {"name": "rashomon-core", "version": rc.__version__}


def test_the_example_without_scikit_lego(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklego", None)
    monkeypatch.setitem(sys.modules, "sklego.datasets", None)
    result = run("measure", "--example", "--json")
    found = document(result)
    assert result.stderr.startswith("note: ")
    assert "rashomon-core[audit]" in result.stderr
    assert result.stderr.count("note:") == 1
    assert found["results"]["fairness"] == {"value": None, "reason": "no groups"}


def test_the_example_in_words() -> None:
    result = run("measure", "--example")
    assert result.exit_code == 0, result.stderr
    assert "Arrests data" in result.stdout
    words = " ".join(result.stdout.split())
    assert "38.2 % of the samples get another answer from at least one surrogate" in words
    assert "reference: the target" in result.stdout


def test_the_document_says_what_profile_says(files: Path, probs: np.ndarray) -> None:
    folder = files
    found = document(
        run(
            *("measure", folder / "p.npy", "--target", folder / "t.npy", "--labels", folder / "y.npy"),
            *("--groups", f"{folder / 'g.csv'}:sex", "--groups", f"{folder / 'g.csv'}:race"),
            *("--weights", folder / "w.npy", "--epsilon", 0.1, "--selection", 0.5, "--seed", 3, "--json"),
            *("--threads", 1, "--memory", "100MB", "--size", 2, "--fairness-threshold", 0.9),
        )
    )
    groups = np.array([line.split(",")[1:] for line in (folder / "g.csv").read_text().splitlines()[1:]])
    same = rc.profile(
        probs,
        target=np.load(folder / "t.npy"),
        y=np.load(folder / "y.npy"),
        groups={"sex": groups[:, 0], "race": groups[:, 1]},
        sample_weight=np.load(folder / "w.npy"),
        epsilon=0.1,
        selection=0.5,
        seed=3,
        size=2,
        fairness_threshold=0.9,
    )
    assert found["results"] == json.loads(json.dumps(same.results()))
    assert found["parameters"] == json.loads(json.dumps(same.parameters))
    assert found["status"] == "complete"
    assert found["resources"]["threads"] == 1
    assert found["resources"]["memory"] == 100_000_000
    roles = [(e["role"], e["select"]) for e in found["inputs"]]
    assert roles == [
        ("predictions", None), ("target", None), ("labels", None), ("groups", "sex"), ("groups", "race"),
        ("weights", None),
    ]  # fmt: skip
    first = found["inputs"][0]
    assert first["shape"] == [M, N, 3]
    assert (first["kind"], first["dtype"], len(first["sha256"])) == ("proba", "float32", 64)


@pytest.mark.parametrize(
    "metrics", ["pass", "all", "fidelity", "losses,pairwise_disagreement", "score_variance", "fairness"]
)
@pytest.mark.parametrize("given", ["nothing", "target", "labels", "everything"])
def test_every_choice_keeps_to_the_schema(files: Path, metrics: str, given: str) -> None:
    options: dict[str, list[object]] = {
        "nothing": [],
        "target": ["--target", files / "t.npy"],
        "labels": ["--labels", files / "y.npy"],
        "everything": ["--target", files / "t.npy", "--labels", files / "y.npy", "--groups", files / "g.csv:sex"],
    }
    found = document(run("measure", files / "p.npy", *options[given], "--metrics", metrics, "--json"))
    assert "set" in found["results"]


def test_the_schema_is_strict(files: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(load_schema())
    found = document(run("measure", files / "p.npy", "--target", files / "t.npy", "--json"))
    for path in ([], ["results"], ["results", "ambiguity"], ["environment"], ["inputs", 0], ["results", "set"]):
        broken = json.loads(json.dumps(found))
        node = broken
        for name in path:
            node = node[name]
        node["surprise"] = 1
        with pytest.raises(jsonschema.ValidationError):
            check_schema(broken)
    broken = json.loads(json.dumps(found))
    broken["results"]["ambiguity"]["value"] = None
    with pytest.raises(jsonschema.ValidationError):
        check_schema(broken)


def test_references_and_losses_from_ids_and_files(files: Path) -> None:
    (files / "loss.csv").write_text("model_id,loss\n" + "".join(f"{k},{k / 10}\n" for k in reversed(range(M))))
    base = ("measure", files / "p.npy", "--json")
    found = document(run(*base, "--reference", "3"))["results"]
    assert found["ambiguity"]["reference"] == "3"
    found = document(run(*base, "--reference", files / "t.npy"))
    assert found["parameters"]["reference"] == "array"
    assert found["inputs"][1]["role"] == "reference"
    found = document(run(*base, "--loss", files / "loss.csv", "--epsilon", 0.25))
    assert found["results"]["set"]["size"] == 3  # losses 0, .1, .2: aligned by model id
    assert found["results"]["set"]["loss"] == "given"
    for option in ("--reference", "--loss"):
        result = run(*base, option, "nobody", "--epsilon", 1)
        assert result.exit_code == 2
        assert "nobody" in result.stderr


def test_tables_are_aligned_by_sample_id_and_columns_are_named(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("sample_id,m1,m2\na,0,1\nb,1,1\nc,1,0\n")
    (tmp_path / "y.csv").write_text("sample_id,label,other\nc,1,0\na,0,0\nb,1,0\n")
    found = document(run("measure", tmp_path / "p.csv", "--target", f"{tmp_path / 'y.csv'}:label", "--json"))
    assert found["results"]["fidelity"]["max"] == 1.0
    assert found["results"]["fidelity"]["argmax"] == "m1"
    assert found["inputs"][1]["select"] == "label"
    np.savez(tmp_path / "v.npz", first=[0, 0, 0], second=[0, 1, 1])
    found = document(run("measure", tmp_path / "p.csv", "--target", f"{tmp_path / 'v.npz'}:second", "--json"))
    assert found["results"]["fidelity"]["argmax"] == "m1"


def test_layouts_and_byte_orders_simply_work(files: Path, probs: np.ndarray) -> None:
    expected = document(run("measure", files / "p.npy", "--json"))["results"]
    np.save(files / "f.npy", np.asfortranarray(probs))
    np.save(files / "b.npy", probs.astype(">f4"))
    np.save(files / "s.npy", np.ascontiguousarray(probs.transpose(1, 2, 0)))
    os.chmod(files / "b.npy", 0o444)
    assert document(run("measure", files / "f.npy", "--json"))["results"] == expected
    assert document(run("measure", files / "b.npy", "--json"))["results"] == expected
    swapped = run("measure", files / "s.npy", "--axes", "samples,classes,models", "--json")
    assert document(swapped)["results"] == expected


def test_output_is_the_same_document_as_stdout(files: Path) -> None:
    before = set(files.iterdir())
    result = run("measure", files / "p.npy", "--json", "--output", files / "r.json")
    assert (files / "r.json").read_text() == result.stdout
    assert set(files.iterdir()) - before == {files / "r.json"}
    result = run("measure", files / "p.npy", "--output", files / "r.json")
    assert "metric" in result.stdout
    check_schema(json.loads((files / "r.json").read_text()))
    assert run("measure", files / "p.npy", "--quiet", "-o", files / "q.json").output == ""
    assert (files / "q.json").exists()


def test_a_warning_is_said_once_and_kept(files: Path) -> None:
    arguments = ("measure", files / "p.npy", "--target", files / "t.npy", "--epsilon", 0.5, "--json")
    result = run(*arguments)
    found = document(result)
    assert found["status"] == "selected_on_evaluation"
    said = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert len(said) == len(set(said)) == len(found["warnings"]) >= 1
    assert run(*arguments, "--quiet").stderr == ""


# --- thresholds ---------------------------------------------------------------------------------------------


def test_fail_above(files: Path) -> None:
    base = ("measure", files / "p.npy", "--target", files / "t.npy", "--json")
    assert run(*base, "--fail-above", "ambiguity.value=1").exit_code == 0
    result = run(*base, "--fail-above", "ambiguity.value=.01", "--fail-above", "fidelity.max=2")
    assert result.exit_code == 1
    assert "failed: ambiguity.value = " in result.stderr
    assert "fidelity" not in result.stderr
    check_schema(json.loads(result.stdout))  # the document is printed all the same
    # null: a limit that cannot be checked was not kept
    result = run("measure", files / "p.npy", "--fail-above", "ambiguity.value=1")
    assert result.exit_code == 1
    assert "ambiguity.value is null (no reference" in result.stderr
    result = run("measure", files / "p.npy", "--fail-above", "fidelity.max=1")
    assert result.exit_code == 1
    result = run(*base, "--fail-above", "ambiguity.valeu=1")
    assert result.exit_code == 2
    assert "ambiguity holds value" in result.stderr
    for text in ("ambiguity.value", "ambiguity.value=x", "=1", "ambiguity.value=nan", "nothing.value=1"):
        result = run(*base, "--fail-above", text)
        assert (result.exit_code, result.stdout) == (2, ""), text


def test_threshold_paths() -> None:
    results = {"score_variance": {"classes": {"a.b": {"mean": 0.5}, "c": {"mean": None}}, "ddof": 0}}
    assert parse_threshold("score_variance.classes.a.b.mean=.5").check(results) is None
    assert "above" in str(parse_threshold("score_variance.classes.a.b.mean=.49").check(results))
    assert "null" in str(parse_threshold("score_variance.classes.c.mean=1").check(results))
    with pytest.raises(UsageError, match="it holds mean"):
        parse_threshold("score_variance.classes.c=1").check(results)
    with pytest.raises(UsageError, match="no 'fairness"):
        parse_threshold("fairness.x=1").check(results)


# --- text for people ----------------------------------------------------------------------------------------


@pytest.fixture
def long_names(tmp_path: Path, rng: np.random.Generator) -> Path:
    names = [f"surrogate-with-a-rather-long-name-[red]-{'x' * 60}-{k}" for k in range(4)]
    labels = rng.integers(0, 3, (4, 50))
    rows = "\n".join(",".join(map(str, [f"id{i}", *labels[:, i]])) for i in range(50))
    (tmp_path / "wide.csv").write_text(",".join(["sample_id", *names]) + "\n" + rows + "\n")
    np.save(tmp_path / "answers.npy", labels[0])
    return tmp_path


def test_text_fits_80_columns(long_names: Path, files: Path) -> None:
    wide = run("measure", long_names / "wide.csv", "--target", long_names / "answers.npy")
    assert wide.exit_code == 0, wide.stderr
    assert "[red]" in wide.stdout
    outputs = [wide, run("measure", "--example"), run("inspect", long_names / "wide.csv")]
    outputs += [run("--help"), run("measure", "--help"), run("inspect", "--help"), run("convert", "--help")]
    for result in outputs:
        assert result.exit_code == 0
        inside = [line for line in result.stdout.splitlines() if str(long_names) not in line]
        assert max(map(len, inside)) <= 80, max(inside, key=len)


def test_no_color_and_plain_streams(files: Path) -> None:
    coloured = run("measure", files / "p.npy", NO_COLOR="", FORCE_COLOR="1")
    assert "\x1b[" in coloured.stdout
    plain = run("measure", files / "p.npy", NO_COLOR="1", FORCE_COLOR="1")
    assert "\x1b" not in plain.stdout
    process = spawn("measure", files / "p.npy", PYTHONIOENCODING="ascii")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.isascii()


def test_text_of_absent_metrics_and_control_characters() -> None:
    import io

    absent = {"value": None, "reason": "the set is empty"}
    results = dict.fromkeys(("fidelity", "ambiguity", "losses", "fairness", "score_variance"), absent)
    facts = {"size": 0, "explored": 4, "epsilon": 0.1, "loss": "fidelity", "status": "empty", "split": "all"}
    found = {
        "results": {**results, "set": facts, "shape": {"models": 4, "samples": 1, "classes": 2}},
        "parameters": {"reference": None},
        "inputs": [{"path": "bad\x1b[31mname.npy", "kind": "proba", "dtype": "float32"}],
        "resources": {"seconds": 1.0},
    }
    page = io.StringIO()
    print_report(found, page, description="made up")
    text = page.getvalue()
    assert "\x1b" not in text
    assert text.count("the set is empty") >= 5
    assert "1 sample, 2 classes" in text
    assert clean("a\tb\x00") == "a\\tb\\x00"
    assert [percent(x) for x in (0, 1e-5, 0.5, 0.99999, 1, None)] == [
        "0.0 %", "< 0.1 %", "50.0 %", "> 99.9 %", "100.0 %", "-"
    ]  # fmt: skip


# --- usage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["p.npy", "--example"],
        ["p.npy", "--epsilon", ".1"],
        ["p.npy", "--target", "t.npy", "--epsilon", "-1"],
        ["p.npy", "--target", "t.npy", "--epsilon", "nan"],
        ["p.npy", "--relative"],
        ["p.npy", "--selection", "2", "--epsilon", "1", "--target", "t.npy"],
        ["p.npy", "--metrics", "ambiguty"],
        ["p.npy", "--kind", "scores"],
        ["p.npy", "--key", "a"],
        ["p.npy", "--reference", "target"],
        ["p.npy", "--positive", "7"],
        ["p.npy", "--positive", "yes"],
        ["p.npy", "--threshold", ".3"],
        ["p.npy", "--missing", "what"],
        ["p.npy", "--threads", "0"],
        ["p.npy", "--memory", "lots"],
        ["p.npy", "--fairness-threshold", "x"],
        ["p.npy", "--fairness-threshold", ".8", "--fairness-threshold", "accuracy_ratio=.8"],
        ["p.npy", "--fairness-threshold", "acuracy_ratio=.8"],
        ["p.npy", "--no-such-option"],
        ["p.npy", "--groups", "t.npy:sex"],
    ],
    ids=" ".join,
)
def test_usage_errors(arguments: list[str], files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    result = run("measure", *arguments, "--json")
    assert result.exit_code == 2, result.stderr
    assert result.stdout == ""
    assert "rror: " in result.stderr
    assert "Traceback" not in result.stderr


def test_version_and_help() -> None:
    assert run("--version").stdout == f"rashomon-core {rc.__version__}\n"
    assert "Exit codes" in run("--help").stdout
    assert run().exit_code == 2


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom rashomon_core.cli import main\nsys.argv = ['rashomon-core', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit as e:\n    assert not e.code\n"
        "heavy = ('numpy', 'scipy', 'pandas', 'torch', 'numba', 'sklearn')\n"
        "print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    for arguments in (["--help"], ["measure", "--help"], ["--version"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stderr.strip() == "[]"


def test_a_defect_is_not_a_failed_threshold(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("oops")

    monkeypatch.setattr("rashomon_core.profiling.profile", broken)
    result = run("measure", files / "p.npy")
    assert result.exit_code == 70
    assert "oops" in result.stderr


# --- inspect and convert ------------------------------------------------------------------------------------


def test_inspect(files: Path, tmp_path: Path) -> None:
    result = run("inspect", files / "p.npy", "--json", "--output", tmp_path / "i.json")
    found = json.loads(result.stdout)
    assert (tmp_path / "i.json").read_text() == result.stdout
    assert found["schema"] == "rashomon-core/inspection"
    assert found["predictions"]["shape"] == [M, N, 3]
    assert found["predictions"]["kind"] == "proba"
    assert found["checks"] == {"ok": True, "problem": None}
    assert any("measure" in s for s in found["suggestions"])
    text = run("inspect", files / "p.npy").stdout
    assert "all checked: good" in text
    np.save(files / "bad.npy", np.array([[0.5, np.nan]]))
    result = run("inspect", files / "bad.npy", "--json")
    assert result.exit_code == 3
    assert "NaN" in json.loads(result.stdout)["checks"]["problem"]
    assert "NaN" in result.stderr
    np.save(files / "tall.npy", np.zeros((9, 2), int))
    assert "--axes samples,models" in run("inspect", files / "tall.npy").stdout


def test_convert(files: Path, tmp_path: Path, probs: np.ndarray) -> None:
    np.save(files / "s.npy", probs.transpose(1, 0, 2))
    arguments = ("convert", files / "s.npy", files / "out.npy", "--axes", "samples,models,classes")
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    assert "out.json" in result.stdout
    np.testing.assert_array_equal(rc.open_predictions(files / "out.npy").to_array(), probs)
    before = (files / "out.npy").read_bytes()
    result = run(*arguments)
    assert result.exit_code == 3
    assert "--force" in result.stderr
    assert (files / "out.npy").read_bytes() == before
    assert run(*arguments, "--force", "--quiet").output == ""
    assert run("convert", files / "p.npy", files / "out.csv").exit_code == 2


# --- processes ----------------------------------------------------------------------------------------------


def test_exit_codes_of_the_process(files: Path) -> None:
    cases: list[tuple[list[object], int]] = [
        (["measure", files / "p.npy", "--json"], 0),
        (["measure", files / "p.npy", "--fail-above", "pairwise_ambiguity.value=0", "--json"], 1),
        (["measure"], 2),
        (["measure", files / "none.npy"], 3),
    ]
    for arguments, code in cases:
        process = spawn(*arguments)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        if code < 2:
            check_schema(json.loads(out))


def test_a_reader_that_goes_away_is_no_error(files: Path) -> None:
    process = spawn("measure", files / "p.npy", "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 0
    assert "Traceback" not in err
    assert "Exception" not in err


@pytest.mark.skipif(not LINUX, reason="needs /proc and sparse files")
@pytest.mark.parametrize("command", ["measure", "convert"])
def test_ctrl_c_in_the_middle(command: str, tmp_path: Path) -> None:
    big = tmp_path / "big.npy"
    with open(big, "wb") as file:  # 20 GB of zeros that take no room on the disk
        shape = (5_000, 4_000_000)
        np.lib.format.write_array_header_1_0(file, {"descr": "|i1", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + shape[0] * shape[1])
    last = ["--output", tmp_path / "r.json", "--threads", 2] if command == "measure" else [tmp_path / "o.npy"]
    process = spawn(command, big, *last, "--n-classes", 2)
    counters = Path(f"/proc/{process.pid}/io")
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if int(counters.read_text().split("rchar:")[1].split()[0]) > 300_000_000:
            break
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert time.monotonic() - started < 10
    assert err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in err
    assert out == ""
    assert [p.name for p in tmp_path.iterdir()] == ["big.npy"]
