"""Seeds that come in stages: what a suite may say, and which runs there are when."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from rankbench.bench.cli import judging, main
from rankbench.bench.cli.rounds import rounds
from rankbench.bench.records import Folders
from rankbench.bench.suite import ConfigError, load_suite, plan

ENTRIES = {"lora": {"rank": 2}, "full": {}, "rslora": {"rank": 2}}


def line(**changes) -> dict:
    """An experiment of a fraction of a second a run."""
    return {
        "task": "linear-regression",
        "model": "none",
        "targets": ["linear"],
        "training": {"steps": 2, "batch_size": 4, "learning_rate": 1e-3},
        "adapters": ENTRIES,
    } | changes


def write(folder: Path, seeds, experiments=None) -> str:
    path, content = folder / "mine.yaml", {"seeds": seeds, "experiments": experiments or {"line": line()}}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(path)


def until(most: int) -> dict:
    return {"from": 3, "to": most, "until": "decided"}


@pytest.fixture
def open_at(monkeypatch):
    """Lets a test say which cells are open after how many seeds of the first experiment's baseline."""

    def say(answers):
        def undecided(folder, runs):
            count = len([run for run in runs if run.startswith("line--lora--")])
            there = {path.stem for path in (folder / "runs").glob("*.json")}
            return {("line", label) for label in answers(count, runs & there)}

        monkeypatch.setattr(judging, "undecided", undecided)

    return say


def cells(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "mine/runs").glob("*.json"))


def expected(**seeds: int) -> list[str]:
    return sorted(f"line--{label}--s{seed}" for label, count in seeds.items() for seed in range(count))


@pytest.mark.parametrize(
    ("first", "to", "stages"),
    [
        (3, 40, (3, 5, 8, 12, 20, 40)),
        (3, 10, (3, 5, 8, 10)),
        (4, 9, (4, 5, 8, 9)),
        (3, 3, (3,)),
        (2, 3, (2, 3)),
    ],
)
def test_stages_are_those_of_all_suites_between_both_ends(tmp_path, first, to, stages):
    path = write(tmp_path, {"from": first, "to": to, "until": "decided"})
    suite = load_suite(path)
    assert suite.stages == {"line": stages}
    specs = list(plan(suite))
    assert {spec.stages for spec in specs} == {stages}
    assert [spec.seed for spec in specs if spec.label == "lora"] == list(range(to))


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ({"from": 5, "to": 3, "until": "decided"}, "seeds: from 5 seeds to 3 are none; exchange the two"),
        ({"from": 1, "to": 3, "until": "decided"}, "seeds.from: Input should be greater than or equal to 2"),
        ({"from": 3, "to": 400, "until": "decided"}, "seeds.to: Input should be less than or equal to 40"),
        ({"from": 3, "to": 40, "until": "decidde"}, "seeds.until: Input should be 'decided'"),
        ({"from": 3, "until": "decided"}, "seeds.to: Field required"),
        ({"from": 3, "to": 40}, "seeds.until: Field required"),
        ({"form": 3, "to": 40, "until": "decided"}, "seeds: unknown key 'form'; did you mean 'from'?"),
        ({"first": 3, "to": 40, "until": "decided"}, "seeds: unknown key 'first'"),
        ({"from": 2.5, "to": 40, "until": "decided"}, "seeds.from: Input should be a valid integer"),
        ({"from": None, "to": 40, "until": "decided"}, "seeds.from: Input should be a valid integer"),
        ({}, "seeds.from: Field required"),
        ("decided", "seeds: Input should be a valid list"),
        (40, "seeds: Input should be a valid list"),
        ([0, "x"], "seeds.1: Input should be a valid integer"),
        ([True], "seeds.0: give a number, not true"),
        ({"from": 3, "to": True, "until": "decided"}, "seeds.to: give a number, not true"),
    ],
)
@pytest.mark.parametrize("at", ["suite", "experiment"])
def test_mistakes_are_named_in_one_line(tmp_path, seeds, message, at):
    path = write(tmp_path, seeds) if at == "suite" else write(tmp_path, [0], {"line": line(seeds=seeds)})
    with pytest.raises(ConfigError) as caught:
        load_suite(path)
    where = "" if at == "suite" else "experiments.line."
    assert str(caught.value).startswith(f"mine.yaml: {where}{message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", [0, 4, 7])
def test_trials_have_none_of_the_seeds_that_may_be_run(tmp_path, seed):
    path = write(tmp_path, until(8), {"line": line(tune={"trials": 2, "seed": seed})})
    with pytest.raises(ConfigError, match=f"^mine.yaml: line: tune: seed {seed} is one of the final runs'"):
        load_suite(path)
    assert load_suite(write(tmp_path, until(8), {"line": line(tune={"trials": 2, "seed": 8})}))


def test_an_experiment_may_have_stages_of_its_own_and_be_called_seeds(tmp_path):
    suite = load_suite(write(tmp_path, [7, 3], {"seeds": line(seeds=until(5)), "line": line()}))
    assert suite.stages == {"seeds": (3, 5), "line": ()}
    with pytest.raises(ConfigError, match=r"experiments\.seeds\.training: Input should be"):
        load_suite(write(tmp_path, [0], {"seeds": line(training=3)}))


def test_every_cell_has_a_result_early_and_then_the_cheap_experiment_is_whole(tmp_path):
    long = line(training=line()["training"] | {"steps": 200})
    suite = load_suite(write(tmp_path, until(5), {"long": long, "short": line()}))
    first = next(iter(rounds(suite, Folders(tmp_path))))
    order = [f"{name}--{label}--s0" for name in ("short", "long") for label in ENTRIES]
    order += [f"short--{label}--s{seed}" for seed in (1, 2) for label in ENTRIES]
    order += [f"long--{label}--s{seed}" for seed in (1, 2) for label in ENTRIES]
    assert [spec.cell for spec in first] == order


def test_listed_seeds_are_one_round_in_the_order_of_the_plan(tmp_path):
    suite = load_suite(write(tmp_path, [7, 3]))
    assert list(rounds(suite, Folders(tmp_path))) == [list(plan(suite))]


def test_each_cell_stops_where_nothing_about_it_is_open(tmp_path, open_at, capsys):
    seen = []

    def answers(count, runs):
        seen.append((count, sorted(runs)))
        return {"lora", "rslora"} if count < 12 else set()

    open_at(answers)
    path = write(tmp_path, until(40))
    assert main(["run", path, "--results", str(tmp_path)]) == 0
    assert cells(tmp_path) == expected(lora=12, full=3, rslora=12)
    assert [count for count, _ in seen] == [3, 5, 8, 12]
    assert all(there == expected(lora=count, full=3, rslora=count) for count, there in seen)
    told = capsys.readouterr()
    assert "judged: claims within reach need more seeds of 2 of 3 cells" in told.err
    assert "runs: 27 done, 0 there already, 0 failed" in told.out
    for path in (tmp_path / "mine/runs").glob("*.json"):
        assert json.loads(path.read_text())["stages"] == [3, 5, 8, 12, 20, 40]


def test_at_the_cap_nothing_more_is_judged(tmp_path, open_at):
    seen = []
    open_at(lambda count, _: seen.append(count) or ENTRIES)
    assert main(["run", write(tmp_path, until(5)), "--results", str(tmp_path)]) == 0
    assert cells(tmp_path) == expected(lora=5, full=5, rslora=5)
    assert seen == [3]


def test_a_killed_command_goes_on_to_the_same_runs(tmp_path, open_at, monkeypatch):
    """Its decisions are made again from the records that there were then, not from those that came after."""
    open_at(lambda count, _: {3: ENTRIES, 5: {"lora", "full"}, 8: set()}[count])
    path = write(tmp_path, until(40))
    assert main(["run", path, "--results", str(tmp_path / "whole")]) == 0
    judge, calls = judging.undecided, []

    def killed(folder, runs):
        calls.append(len(runs))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return judge(folder, runs)

    monkeypatch.setattr(judging, "undecided", killed)
    assert main(["run", path, "--results", str(tmp_path / "killed")]) == 130
    assert cells(tmp_path / "killed") == expected(lora=5, full=5, rslora=5)
    assert main(["run", path, "--results", str(tmp_path / "killed")]) == 0
    assert cells(tmp_path / "killed") == cells(tmp_path / "whole") == expected(lora=8, full=8, rslora=5)
    calls.clear()
    monkeypatch.setattr(judging, "undecided", lambda *given: calls.append(given) or judge(*given))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed/mine/runs").iterdir()}
    assert main(["run", path, "--results", str(tmp_path / "killed")]) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "killed/mine/runs").iterdir()} == before
    assert len(calls) == 3


def test_seeds_by_number_are_not_judged(tmp_path, open_at):
    open_at(lambda *_: pytest.fail("judged"))
    path = write(tmp_path, until(40))
    assert main(["run", path, "--results", str(tmp_path), "--seeds", "4"]) == 0
    assert cells(tmp_path) == expected(lora=4, full=4, rslora=4)


def test_later_seeds_that_are_asked_for_are_done_though_the_first_are_not(tmp_path, open_at):
    open_at(lambda *_: pytest.fail("judged"))
    asked = ["run", write(tmp_path, until(5)), "--results", str(tmp_path), "--only", "line--lora--s4"]
    assert main(asked) == 0
    assert cells(tmp_path) == ["line--lora--s4"]
    assert main([*asked, "--save"]) == 0
    assert (tmp_path / "mine/runs/line--lora--s4.safetensors").exists()


def test_a_report_says_which_seeds_are_no_part_of_the_plan(tmp_path, open_at, capsys):
    open_at(lambda *_: set())
    assert main(["run", write(tmp_path, [0, 1, 7]), "--results", str(tmp_path)]) == 0
    path = write(tmp_path, until(5))
    assert main(["run", path, "--results", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main(["report", path, "--results", str(tmp_path)]) == 0
    late = ", ".join(f"line--{label}--s7" for label in sorted(ENTRIES))
    assert f"runs no {late}: seeds that are no part of its plan do not count" in capsys.readouterr().err
    assert "s7" not in (tmp_path / "mine/report.md").read_text()


def test_of_chosen_runs_the_others_count_as_they_are(tmp_path, open_at):
    path = write(tmp_path, until(8))
    open_at(lambda *_: set())
    assert main(["run", path, "--results", str(tmp_path)]) == 0
    seen = []
    open_at(lambda _, runs: seen.append(sorted(runs)) or {"lora", "full"})
    assert main(["run", path, "--results", str(tmp_path), "--only", "line--full--*"]) == 0
    assert cells(tmp_path) == expected(lora=3, full=8, rslora=3)
    assert seen[0] == expected(lora=3, full=3, rslora=3)


def test_a_run_that_fails_holds_up_no_stage(tmp_path, open_at):
    bad = ENTRIES | {"full": {"learning_rate": 1e30}}
    open_at(lambda count, _: {"lora", "full"} if count < 5 else set())
    path = write(tmp_path, until(8), {"line": line(adapters=bad)})
    assert main(["run", path, "--results", str(tmp_path)]) == 1
    assert cells(tmp_path) == expected(lora=5, rslora=3)
    failed = sorted(path.stem for path in (tmp_path / "mine/failed").glob("*.json"))
    assert failed == expected(full=5)


def test_records_say_the_stages_that_the_suite_has_now(tmp_path, open_at):
    open_at(lambda *_: set())
    assert main(["run", write(tmp_path, [0, 1, 2]), "--results", str(tmp_path)]) == 0
    records = sorted((tmp_path / "mine/runs").glob("*.json"))
    assert not any("stages" in json.loads(path.read_text()) for path in records)
    before = [json.loads(path.read_text()) for path in records]
    assert main(["run", write(tmp_path, until(8)), "--results", str(tmp_path)]) == 0
    after = [json.loads(path.read_text()) for path in records]
    assert after == [record | {"stages": [3, 5, 8]} for record in before]
    assert main(["run", write(tmp_path, [0, 1, 2]), "--results", str(tmp_path)]) == 0
    assert [json.loads(path.read_text()) for path in records] == before


def test_records_say_what_the_suite_says_now_of_a_method(tmp_path, capsys):
    """Claims about tuned methods are judged by it."""

    def run(tuned):
        entry = {"rank": 2, "learning_rate": 0.01, "tuned": tuned}
        adapters = {"lora": entry, "rslora": entry}
        path = write(tmp_path, [0], {"line": line(adapters=adapters)})
        assert main(["run", path, "--results", str(tmp_path)]) == 0
        return {path.stem: json.loads(path.read_text()) for path in (tmp_path / "mine/runs").glob("*.json")}

    before = run(True)
    after = run(False)
    assert "0 done, 2 there already" in capsys.readouterr().out
    assert after == {cell: record | {"tuned": False} for cell, record in before.items()}
    assert {record["tuned"] for record in before.values()} == {True}
    assert run(True) == before


def test_a_plan_says_from_how_many_runs_to_how_many(tmp_path, capsys):
    path = write(tmp_path, until(8), {"line": line(), "fixed": line(seeds=[0, 1])})
    assert main(["plan", path, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    counts = {(cell["experiment"], cell["adapter"]): cell for cell in found["cells"]}
    assert counts["line", "lora"]["runs"] == [f"line--lora--s{seed}" for seed in range(3)]
    assert (counts["line", "lora"]["at_most"], counts["fixed", "lora"]["at_most"]) == (8, 2)
    sure, most = found["total"], found["total"]["at_most"]
    assert (sure["runs"], most["runs"]) == (9 + 6, 24 + 6)
    for key in ("seconds", "gpu_hours"):
        each = [(cell["experiment"], cell[key]) for cell in found["cells"]]
        assert sure[key] == pytest.approx(sum({"line": 3, "fixed": 2}[name] * cost for name, cost in each))
        assert most[key] == pytest.approx(sum({"line": 8, "fixed": 2}[name] * cost for name, cost in each))
    assert main(["plan", path]) == 0
    text = capsys.readouterr().out
    assert "3 to 8" in text
    assert "15 to 30 runs" in text
    assert "how soon claims are decided" in text
    assert "ranges of trials" not in text
    assert main(["plan", path, "--seeds", "4"]) == 0
    text = capsys.readouterr().out
    assert "24 runs" in text
    assert " to " not in text.split("layers")[0]


def test_a_plan_counts_the_trials_that_grown_ranges_would_take(tmp_path, capsys):
    """Half as many as there were first, rounded up, each time: 3, and 2 and 2."""
    entries = {"lora": {"rank": 2}, "rslora": {"rank": 2, "learning_rate": 1e-3}}
    path = write(tmp_path, [0, 1], {"line": line(tune={"trials": 3, "widen": 2}, adapters=entries)})
    assert main(["plan", path, "--json"]) == 0
    total = json.loads(capsys.readouterr().out)["total"]
    assert (total["runs"], total["trials"], total["at_most"]["runs"]) == (3 + 4, 3, 7 + 4)
    assert main(["plan", path, "--only", "*-t0[0-4]--*"]) == 0
    text = capsys.readouterr().out
    assert "3 to 5 runs, 3 of them trials" in text
    assert "how trials come out" in text
    assert "how soon claims are decided" not in text


def test_a_plan_counts_the_trials_of_every_length(tmp_path, capsys):
    """Of 5 trials 5, 3 and 2 (a half of them, rounded up, and a quarter), of 3 of grown ranges 3, 2 and 1."""
    tune = {"trials": 5, "widen": 1, "halving": {"rungs": 2}}
    steps = 8
    training = {"steps": steps, "batch_size": 4, "learning_rate": 1e-3}
    path = write(tmp_path, [0], {"line": line(tune=tune, training=training)})
    assert main(["plan", path, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    lora = [
        cell for cell in found["cells"] if (cell["experiment"], cell["adapter"]) == ("line-trials", "lora")
    ]
    told = [(cell["steps"], len(cell["runs"]), cell["at_most"]) for cell in lora]
    assert told == [(steps // 4, 5, 5 + 3), (steps // 2, 0, 3 + 2), (steps, 0, 2 + 1)]
    most = found["total"]["at_most"]
    assert most["trials"] == sum(
        cell["at_most"] for cell in found["cells"] if cell["experiment"] == "line-trials"
    )
    assert main(["plan", path, "--only", "line-trials--lora-t0[01]*", "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert [cell["at_most"] for cell in cells] == [2, 2, 2]


def test_seeds_that_are_asked_for_are_not_the_trials(tmp_path, capsys):
    path = write(tmp_path, [0], {"line": line(tune={"trials": 2, "seed": 3})})
    assert main(["plan", path, "--seeds", "3"]) == 0
    assert main(["plan", path, "--seeds", "4"]) == 2
    assert "--seeds 4: seed 3 is that of the trials of line" in capsys.readouterr().err


def test_labels_that_are_numbers_stay_as_they_are(tmp_path, capsys):
    entries = {"4": {"name": "lora", "rank": 4}, "8": {"name": "lora", "rank": 8}}
    path = write(tmp_path, [0], {"line": line(adapters=entries)})
    assert main(["plan", path]) == 0
    rows = [row.split() for row in capsys.readouterr().out.splitlines() if row.startswith("line ")]
    assert [row[1] for row in rows] == ["4", "8"]


def test_trials_come_first_and_are_one_cell_of_the_plan(tmp_path, open_at, capsys):
    tune = {"trials": 2, "widen": 0}
    entries = {"lora": {"rank": 2}, "full": {}, "rslora": {"rank": 2, "learning_rate": 1e-3}}
    path = write(tmp_path, until(5), {"line": line(tune=tune, adapters=entries), "other": line(tune=tune)})
    assert main(["plan", path, "--only", "line*", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    shown = [(cell["experiment"], cell["adapter"], len(cell["runs"])) for cell in found["cells"]]
    assert shown[:2] == [("line-trials", "lora", 2), ("line-trials", "full", 2)]
    assert (found["total"]["runs"], found["total"]["trials"]) == (4 + 9, 4)
    assert main(["plan", path, "--only", "line*"]) == 0
    assert "13 to 19 runs, 4 of them trials, about" in capsys.readouterr().out
    open_at(lambda *_: {"lora", "full"})
    words = ["run", path, "--results", str(tmp_path), "--only"]
    assert main([*words, "line--*"]) == 2
    assert "line: trials still to be done: 4; `rankbench tune`" in capsys.readouterr().err
    assert main([*words, "line-trials--*"]) == 0
    assert len(cells(tmp_path)) == 4
    assert main([*words, "line--*"]) == 0
    assert [name for name in cells(tmp_path) if "trials" not in name] == expected(lora=5, full=5, rslora=3)
    record = json.loads((tmp_path / "mine/runs/line--lora--s4.json").read_text())
    assert (len(record["chosen_by"]), record["stages"]) == (2, [3, 5])
    trial = json.loads((tmp_path / "mine/runs/line-trials--lora-t00--s1000.json").read_text())
    assert "stages" not in trial
