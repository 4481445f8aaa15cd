"""Reports against hand-computed numbers on small made-up records."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from rankbench import reports
from rankbench.bench.records import Curve, FailureRecord, MergeParity, Metrics, Observation, RecordError
from rankbench.reports import sections
from rankbench.reports.claims.schema import load_claims
from rankbench.reports.frames import flatten, load
from rankbench.reports.sections.overhead.growth import exponent
from rankbench.reports.stats.costs import peak_ratios, ratios
from rankbench.reports.stats.evidence import StatsError
from rankbench.reports.stats.summary import Reached, final_losses, reach, smooth, spread
from tests.made_records import accuracy, curve, overhead_record, run_record, save


def report(folder: Path) -> str:
    return reports.write(folder).read_text()


def tables(text: str, heading: str) -> list[dict[str, str]]:
    """The rows of the first table after a heading, by column."""
    lines = text[text.index(f"{heading}\n") :].splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def test_no_records_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(
        RecordError, match=r"^no records under .*made; do `rankbench run` of the suite first$"
    ):
        reports.write(tmp_path / "made")


def test_a_corrupt_record_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    save(tmp_path, run_record("movie", "lora", 0))
    (tmp_path / "runs" / "movie--lora--1.json").write_text('{"schema_version": 1, "sui')
    with pytest.raises(RecordError, match=r"movie--lora--1\.json is corrupt"):
        reports.write(tmp_path)
    assert not (tmp_path / "report.md").exists()


def test_the_figures_are_those_of_the_page_and_no_others(laptop: Path) -> None:
    present = {path.name for path in (laptop / "figures").iterdir()}
    claims = {f"claim--{claim.id}.svg" for claim in load_claims()} & present
    assert len(claims) > 10
    assert present == claims | {
        *(f"loss--{task}.svg" for task in ("amazon", "movie", "regression")),
        *(f"rank--{task}.svg" for task in ("amazon", "movie", "regression")),
        *(f"{kind}--pruned.svg" for kind in ("heat", "loss")),
        "published--lora2-figure-3.svg",
        "ranks--movie-ranks.svg",
        "overhead--encoder.svg",
    }
    assert present == set(re.findall(r"\]\(figures/([^)]+)\)", (laptop / "report.md").read_text()))


def test_scores_are_mean_sd_and_n(tmp_path: Path) -> None:
    for seed, (lora, scalora) in enumerate([(0.80, 0.83), (0.82, 0.83), (0.84, 0.86)]):
        save(tmp_path, run_record("movie", "lora", seed, metrics=accuracy(lora, lora - 0.1)))
        save(tmp_path, run_record("movie", "scalora", seed, metrics=accuracy(scalora)))
    save(tmp_path, run_record("movie", "dora", 7, metrics=accuracy(0.5)))
    text = report(tmp_path)
    first, second, third = tables(text, "### movie")
    # the sd of 0.83, 0.83, 0.86 is sqrt(3e-4)
    assert first["adapter"] == "scalora"
    assert first["accuracy ×100, best"] == "84.00 ± 1.73 (3)"
    assert first["trainable parameters"] == "1,500"
    assert second["accuracy ×100, best"] == "82.00 ± 2.00 (3)"
    assert second["accuracy ×100, last"] == "72.00 ± 2.00 (3)"
    assert third["accuracy ×100, best"] == "50.00 (1)"


def test_errors_are_not_scaled_and_the_smallest_comes_first(tmp_path: Path) -> None:
    for adapter, error in (("lora", 1.5), ("scalora", 1.25)):
        best = {"mse": error, "pearson": 0.7}
        metrics = Metrics(main="mse", lower_is_better=True, best=best, last=best, best_step=1, last_step=1)
        save(tmp_path, run_record("amazon", adapter, 0, metrics=metrics))
    text = report(tmp_path)
    row = tables(text, "### amazon")[0]
    assert (row["adapter"], row["mse, best"], row["pearson ×100, best"]) == (
        "scalora",
        "1.25 (1)",
        "70.00 (1)",
    )
    assert tables(text, "## Leaderboard")[0] == {"adapter": "lora", "amazon: mse ↓": "1.5 (1)"}


def test_runs_of_other_protocols_never_share_a_table(tmp_path: Path) -> None:
    save(tmp_path, run_record("movie", "lora", 0), run_record("movie", "lora", 1))
    other = {"length": 128, "targets": "query|value"}
    save(tmp_path, run_record("movie", "scalora", 0, protocol=other), run_record("bbc", "lora", 0))
    text = report(tmp_path)
    assert "`movie` was run under 2 protocols (A, B) that differ in `length`." in text
    assert [row["adapter"] for row in tables(text, "### movie (A)")] == ["lora"]
    (alone,) = tables(text, "### movie (B)")
    assert alone["adapter"] == "scalora"
    assert "No run of lora here to take differences to." in text, "its LoRA ran under another protocol"
    board = {row["adapter"]: row for row in tables(text, "## Leaderboard")}
    assert board["scalora"]["movie (A): accuracy ×100 ↑"] == "–"
    assert board["scalora"]["movie (B): accuracy ×100 ↑"] == "80.00 (1)"
    fields = {row["field"]: row for row in tables(text, "## Protocol")}
    assert (fields["length"]["movie (A)"], fields["length"]["movie (B)"]) == ("64", "128")
    shared = next(line for line in text.splitlines() if line.startswith("Of all tasks: "))
    assert "targets query|value" in shared
    assert "length" not in shared


def test_a_split_smaller_than_asked_for_is_said(tmp_path: Path) -> None:
    config = {"task": {"options": {"train": None, "selection": 8, "test": 5000}}}
    made = {"config": config, "protocol": {"sizes": {"train": 40, "selection": 8, "test": 71}}}
    text = report(
        save(tmp_path, run_record("movie", "lora", 0, **made), run_record("movie", "lora", 1, **made))
    )
    assert text.count("`movie` was asked for 5000 test items and has 71: all were used.") == 1
    assert "was asked for 8" not in text


def test_another_model_is_another_protocol(tmp_path: Path) -> None:
    save(tmp_path, run_record("movie", "lora", 0), run_record("movie", "scalora", 0, model="large"))
    assert [group.differing for group in load(tmp_path).groups] == [["model"], ["model"]]


def test_smoothing_is_a_trailing_mean_over_a_tenth() -> None:
    values = [float(value) for value in range(20)]
    assert smooth(values).tolist() == [0.0, *(value - 0.5 for value in values[1:])]
    assert smooth([3.0, 1.0]).tolist() == [3.0, 1.0]


def test_small_late_losses_survive_large_early_ones() -> None:
    assert smooth([1e12] * 50 + [1e-9] * 50)[-1] == pytest.approx(1e-9, rel=1e-12)


def test_final_loss_and_the_step_that_reaches_it() -> None:
    fast = curve([4.0, 2.0] + [0.5] * 18)
    slow = run_record("movie", "lora", 3, curve=curve([2.0] * 18 + [1.0, 0.6]))
    level = final_losses({3: slow})
    assert level == {3: pytest.approx(0.8)}
    # Windows of two: 3.0, 1.25, 0.5 …: the third step's window is (2.0 + 0.5) / 2, the fourth's 0.5.
    assert reach(fast, level[3]) == Reached(4, 4.0)
    assert reach(slow.curve, level[3]) == Reached(20, 20.0)
    assert reach(curve([2.0] * 20), level[3]) is None
    assert reach(curve([0.1, 3.0] + [2.0] * 18), level[3]) is None, "one lucky batch is no whole window"


def test_convergence_compares_each_seed_with_its_own_lora(tmp_path: Path) -> None:
    for seed in (0, 1):
        save(tmp_path, run_record("movie", "lora", seed))  # ends at 0.1 after 10 steps
    save(tmp_path, run_record("movie", "scalora", 0, curve=curve([0.1] * 10, penalty=0.25)))
    save(tmp_path, run_record("movie", "scalora", 1, curve=curve([0.3] * 10, penalty=0.75)))
    save(tmp_path, run_record("movie", "dora", 0, curve=curve([0.3] * 10)))
    rows = {row["adapter"]: row for row in tables(report(tmp_path), "### movie: training loss")}
    assert (rows["lora"]["steps to lora's"], rows["lora"]["seconds to lora's"]) == (
        "10 ± 0 (2)",
        "10 ± 0 (2)",
    )
    assert (rows["scalora"]["steps to lora's"], rows["scalora"]["seconds to lora's"]) == (
        "1 (1 of 2)",
        "1 (1 of 2)",
    )
    assert rows["scalora"]["final loss"] == "0.20 ± 0.14 (2)"
    assert rows["scalora"]["penalty at last step"] == "0.50 ± 0.35 (2)"
    assert rows["dora"]["steps to lora's"] == "–"


def test_rank_sweep_orders_ranks_by_size(tmp_path: Path) -> None:
    for rank, norm in ((4, 1.0), (16, 0.5), (128, 0.25)):
        made = curve([0.5] * 10, gradient_norm=norm)
        config = {"adapter": {"name": "lora", "rank": rank}}
        save(tmp_path, run_record("sweep", f"x-{rank}", 0, curve=made, config=config))
    text = report(tmp_path)
    rows = tables(text, "### sweep: ranks")
    assert [row["rank"] for row in rows] == ["4", "16", "128"]
    assert [row["mean gradient norm"] for row in rows] == ["1 (1)", "0.5 (1)", "0.25 (1)"]
    assert [row["adapter"] for row in tables(text, "## Leaderboard")] == ["x-4", "x-16", "x-128"]


def test_labels_that_end_in_a_rank_make_no_rank_sweep(tmp_path: Path) -> None:
    for name, rank in (("lora", 8), ("scalora", 16)):
        config = {"adapter": {"name": name, "rank": rank}}
        save(tmp_path, run_record("movie", f"{name}-r{rank}", 0, config=config))
    text = report(tmp_path)
    assert "## Rank sweep" not in text
    assert [row["adapter"] for row in tables(text, "## Leaderboard")] == ["lora-r8", "scalora-r16"]


def test_adapters_that_differ_in_more_than_the_rank_are_no_sweep(tmp_path: Path) -> None:
    for rank, alpha in ((4, 8), (16, 32)):
        config = {"adapter": {"name": "lora", "rank": rank, "alpha": alpha}}
        save(tmp_path, run_record("movie", f"lora-r{rank}", 0, config=config))
    assert "## Rank sweep" not in report(tmp_path)


def test_a_cost_of_one_process_has_no_interval(tmp_path: Path) -> None:
    """As records once were. Medians of each contender alone would give 3; the rounds say 1.5, 3, 1.5."""
    record = overhead_record({"lora": [0.1, 0.1, 0.4], "scalora": [0.15, 0.3, 0.6]})
    assert ratios(record, "lora")["scalora"] == (pytest.approx(1.5), None, None)
    text = report(save(tmp_path, record))
    assert "\n3 rounds. One process: its rounds are no replicates" in text
    rows = {row["contender"]: row for row in tables(text, "### encoder: tiny")}
    assert rows["scalora"]["time ÷ lora"] == "1.500"
    assert rows["scalora"]["ms per step"] == "300.0"
    assert rows["scalora"]["time ÷ floor"] == "–"
    assert rows["scalora"]["mean ÷ lora"] == "1.750"
    assert rows["scalora"]["tokens/s"] == "–"
    assert (rows["scalora"]["peak MiB"], rows["scalora"]["peak ÷ lora"]) == ("880", "1.100")
    timed = overhead_record({"lora": [0.1, 0.2, 0.3]}, config={"batch": 4, "length": 50})
    assert tables(report(save(tmp_path, timed)), "### encoder: tiny")[0]["tokens/s"] == "1,000"


def test_the_interval_of_a_cost_is_over_processes_on_logarithms(tmp_path: Path) -> None:
    """Rounds that agree to the bit inside each process, and processes that do not agree: ratios 2, 4 and 8,
    so 4 ± 4.303 · ln 2 / √3 doublings (two degrees of freedom)."""
    seconds = {
        "lora": [[0.1] * 10, [0.1] * 10, [0.1] * 10],
        "scalora": [[0.2] * 10, [0.4] * 10, [0.8] * 10],
    }
    peaks = {"lora": [100.0] * 3, "scalora": [200.0, 400.0, 800.0]}
    record = overhead_record(seconds, peak_resident=peaks)
    reach = math.exp(4.302653 * math.log(2) / math.sqrt(3))
    expected = (pytest.approx(4.0), pytest.approx(4 / reach), pytest.approx(4 * reach))
    assert ratios(record, "lora")["scalora"] == expected
    assert peak_ratios(record, "lora")["scalora"] == expected
    text = report(save(tmp_path, record))
    assert "\n3 processes × 10 rounds.\n" in text
    row = tables(text, "### encoder: tiny")[1]
    shown = f"4.000 [{4 / reach:.3f}, {4 * reach:.3f}]"
    assert row["time ÷ lora"] == row["mean ÷ lora"] == row["peak ÷ lora"] == shown
    inverse = ratios(record, "scalora")["lora"]
    assert inverse == tuple(pytest.approx(1 / end) for end in (4.0, 4 * reach, 4 / reach)), (
        "turned round, the same interval"
    )


def test_overhead_names_the_machine(tmp_path: Path) -> None:
    machine = {"processor": "Z80", "cores": 1, "threads": 2, "device": "cpu", "packages": {"torch": "2.13.0"}}
    text = report(save(tmp_path, overhead_record({"lora": [0.1, 0.1]}, provenance=machine)))
    assert "\n2 rounds on Z80, one core, 2 threads, torch 2.13.0. One process" in text


def test_loops_are_compared_with_the_trainer_round_by_round(tmp_path: Path) -> None:
    seconds = {
        "rankbench": [0.1, 0.1, 0.2],
        "rankbench, all logits": [0.2, 0.2, 0.2],
        "trainer": [0.3, 0.2, 0.2],
    }
    peaks = {"rankbench": 500.0, "trainer": 1000.0}
    shape = {"kind": "loop", "batch": 2, "length": 10}
    text = report(save(tmp_path, overhead_record(seconds, peak_resident=peaks, config=shape)))
    rows = {row["contender"]: row for row in tables(text, "### encoder: tiny")}
    assert rows["rankbench"]["tokens/s"] == "200"
    assert rows["rankbench"]["tokens/s ÷ trainer"] == "2.000"
    assert (rows["rankbench"]["peak MiB"], rows["rankbench"]["peak ÷ trainer"]) == ("500", "0.500")
    assert rows["trainer"]["tokens/s ÷ trainer"] == "1.000"
    assert "takes 2.000 times as many steps" in text


def test_the_dropouts_part_of_a_loops_speed_is_told(tmp_path: Path) -> None:
    """1.5 times as shipped, 1.2 times by the loop alone."""
    seconds = {
        "rankbench": [[0.2] * 3] * 5,
        "rankbench, PyTorch's dropout": [[0.25] * 3] * 5,
        "trainer": [[0.3] * 3] * 5,
    }
    shape = {"kind": "loop", "batch": 2, "length": 10, "processes": 5}
    text = report(save(tmp_path, overhead_record(seconds, peak_resident={}, config=shape)))
    rows = {row["contender"]: row["tokens/s ÷ trainer"] for row in tables(text, "### encoder: tiny")}
    assert (rows["rankbench"], rows["rankbench, PyTorch's dropout"]) == ("1.500", "1.200")
    told = " ".join(text.split())
    assert "As each ships, `rankbench` does 1.500 times" in told
    assert "With PyTorch's dropout in both it does 1.200 times as many: this part is the loop's" in told
    assert "The rest, 1.250 times, is the cheaply drawn dropout" in told
    assert "earlier version" not in told
    old = overhead_record({"rankbench": [0.2], "trainer": [0.3]}, peak_resident={}, config={"kind": "loop"})
    assert "how much of the ratio is due to that was not measured" in report(save(tmp_path, old))


def test_growth_is_fitted_above_the_floor(tmp_path: Path) -> None:
    def point(axis: str, width: int, rank: int, seconds: float) -> dict[str, Any]:
        times = {"floor": [1.0, 2.0], "lora": [1.0 + seconds, 2.0 + seconds]}
        shape = {"axis": axis, "rank": rank, "width": width, "layers": 3}
        return {**shape, "seconds": times | {"scalora": times["lora"]}, "rescale": {"scalora": [0.5, 0.5]}}

    # Twice the rank, four times the time; twice the width, the same time.
    points = [point("rank", 64, rank, 1e-3 * rank**2) for rank in (2, 4, 8)]
    points += [point("width", width, 2, 1e-3) for width in (64, 128)]
    record = overhead_record({}, name="growth", growth=points, config={"kind": "growth", "tokens": 256})
    text = report(save(tmp_path, record))
    assert [(row["rank"], row["floor"], row["lora"]) for row in tables(text, "### growth: tiny")] == [
        ("2", "1500.00", "4.00"),
        ("4", "1500.00", "16.00"),
        ("8", "1500.00", "64.00"),
    ]
    fitted = [
        line.split("|") for line in text.splitlines() if re.match(r"\| (rank|width) +\| (sca)?lora", line)
    ]
    exponents = {(row[1].strip(), row[2].strip()): row[3].strip() for row in fitted}
    expected = {(row[1].strip(), row[2].strip()): row[4].strip() for row in fitted}
    assert (exponents["rank", "lora"], expected["rank", "lora"]) == ("2.00", "1.00")
    assert (exponents["width", "lora"], expected["width", "lora"]) == ("0.00", "1.00")
    assert exponents["rank", "scalora, rescaling"] == "0.00"
    # 64² r + 2·64 r²: between r and r²; from width 64 to 128 it is log2((2·128² + 8·128) / (2·64² + 8·64)).
    assert expected["width", "scalora, rescaling"] == "1.96"
    assert exponent([2, 4], [0.1, -0.1]) is None


def test_an_exponent_of_growth_has_its_interval_over_processes(tmp_path: Path) -> None:
    """In one process as rank¹, in the other as rank³: 2 ± 12.706 · √2 / √2."""

    def point(rank: int) -> dict[str, Any]:
        seconds = {"floor": [[1.0, 2.0]] * 2, "lora": [[1.0 + rank**n, 2.0 + rank**n] for n in (1, 3)]}
        return {"axis": "rank", "rank": rank, "width": 64, "layers": 3, "seconds": seconds}

    record = overhead_record(
        {}, name="growth", growth=[point(rank) for rank in (2, 4, 8)], config={"tokens": 256}
    )
    text = report(save(tmp_path, record))
    assert "| rank | lora | 2.00 [-10.71, 14.71] |" in re.sub(" +", " ", text)
    assert "2 processes × 2 rounds." in text


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("seconds", {"lora": [0.1], "scalora": [0.1, 0.2]}, "unequal rounds"),
        ("seconds", {"lora": [[0.1], [0.1]], "scalora": [[0.1]]}, "unequal rounds"),
        ("seconds", {"lora": [[0.1], []], "scalora": [[0.1], []]}, "a process without a round"),
        ("seconds", {"lora": [0.0], "scalora": [0.1]}, "greater than 0"),
        ("peak_resident", {"lora": [1.0, 1.0], "scalora": 1.0}, "unequal numbers of processes"),
        ("peak_resident", {"lora": 0.0}, "greater than 0"),
    ],
)
def test_broken_overhead_is_refused(tmp_path: Path, key: str, value: dict[str, Any], fault: str) -> None:
    save(tmp_path, overhead_record({"lora": [0.1], "scalora": [0.1]}))
    path = tmp_path / "overhead" / "encoder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(RecordError, match=f"encoder.json is corrupt .*{fault}"):
        reports.write(tmp_path)


def test_accumulated_rank_and_share_at_the_end(tmp_path: Path) -> None:
    for seed, (low, high) in enumerate([(4, 8), (6, 14)]):
        seen = [
            Observation(step=5, accumulated_rank={"a": 1, "b": 1}),
            Observation(step=10, accumulated_rank={"a": low, "b": high}),
            Observation(step=10, selection=0.5),
        ]
        share = {"step": [1, 2], "share": [1.0, 0.5]}
        diagnostics = {"nonnegative_share": share, "clipped": 0.25 + seed, "note": "text", "flag": True}
        save(tmp_path, run_record("movie", "scalora", seed, observations=seen, diagnostics=diagnostics))
    text = report(tmp_path)
    (row,) = tables(text, "#### movie: ranks and scaling")
    assert (row["last step"], row["layers"], row["largest layer"]) == ("10", "2", "14")
    assert row["mean over layers"] == "8.0 ± 2.8 (2)"
    assert row["non-negative share ×100"] == "75.00 ± 0.00 (2)"
    assert [row["diagnostic"] for row in tables(text, "## Other diagnostics")] == ["clipped"]


def test_merge_parity_takes_the_worst_and_sums_the_flips(tmp_path: Path) -> None:
    for seed, (difference, flips) in enumerate([(1e-6, 1), (3e-6, 2)]):
        parity = MergeParity(largest_logit_difference=difference, top1_flips=flips, items=32)
        save(tmp_path, run_record("movie", "lora", seed, merge_parity=parity))
    text = report(tmp_path)
    assert tables(text, "## Merge parity") == [{"adapter": "lora", "movie": "3e-06"}]
    assert "The first choice flipped in 3 of 64 answers." in text


def test_provenance_lists_distinct_values_and_time(tmp_path: Path) -> None:
    mixed = {"commit": "cd" * 20, "packages": {"torch": "2.13.0"}}
    save(tmp_path, run_record("movie", "lora", 0), run_record("movie", "lora", 1))
    save(tmp_path, run_record("movie", "lora", 2, provenance=mixed))
    text = report(tmp_path)
    values = {row["field"]: row["values"] for row in tables(text, "## Provenance")}
    assert values == {"commit": "abababababab (2), cdcdcdcdcdcd (1)", "packages.torch": "2.13.0"}
    assert "In all 37.5 s. Means over the seeds" in text


def test_failures_are_shown_and_counted_nowhere(tmp_path: Path) -> None:
    assert "## Failures\n\nNone." in report(save(tmp_path / "good", run_record("movie", "lora", 0)))
    fields = {"suite": "made", "task": "movie", "adapter": "lora", "seed": 1, "fingerprint": "0" * 64}
    failure = FailureRecord.model_validate(
        fields | {"reason": "loss is NaN", "step": 17, "config": {}, "provenance": {}}
    )
    text = report(save(tmp_path / "bad", run_record("movie", "lora", 0), failure))
    assert tables(text, "## Failures") == [
        {"task": "movie", "adapter": "lora", "seed": "1", "step": "17", "reason": "loss is NaN"}
    ]
    assert tables(text, "### movie")[0]["accuracy ×100, best"].endswith("(1)")
    assert "Nothing finished: one failure." in report(save(tmp_path / "only", failure))


def test_runs_without_curve_or_probes_leave_their_sections_out(tmp_path: Path) -> None:
    text = report(save(tmp_path, run_record("movie", "zero-shot", 0, curve=Curve())))
    assert "## Convergence" not in text
    assert "## Accumulated rank" not in text
    assert "No run of lora" in text


def test_small_helpers() -> None:
    assert flatten({"a": {"b": 1, "c": {}}, "d": None}) == {"a.b": "1", "a.c": "{}", "d": "null"}
    assert spread([]) is None


def test_runs_of_another_suite_are_counted_apart(tmp_path: Path) -> None:
    other = {"commit": "abc", "taken_over_from": "laptop"}
    save(tmp_path, run_record("movie", "lora", 0, provenance=other), run_record("movie", "lora", 1))
    assert "Taken over from other suites, and no evidence beside theirs: 1 of `laptop`." in report(tmp_path)


def test_a_new_section_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new/brand_new.py").write_text(
        "from rankbench.reports.render.blocks import Section\n"
        "def section(study):\n"
        "    return Section('Brand new', [f'Of {len(study.shown.records)} run.'])\n"
    )
    monkeypatch.setattr(sections, "__path__", [*sections.__path__, str(tmp_path / "new")])
    save(tmp_path / "suite", run_record("movie", "lora", 0))
    assert report(tmp_path / "suite").endswith("## Brand new\n\nOf 1 run.\n")


def test_what_a_test_cannot_take_leaves_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise StatsError("3 and 4 items")

    save(tmp_path, run_record("movie", "lora", 0))
    monkeypatch.setattr("rankbench.reports.sections.leaderboard.section", broken)
    text = report(tmp_path)
    assert "## Leaderboard\n\nNot shown: 3 and 4 items." in text
    assert "## Scores by task" in text
    assert "## Failures" in text


def test_what_was_trained_is_shown_by_entry(tmp_path: Path) -> None:
    shape = {"layers": {"query": 6, "value": 6}, "heads": ["classifier"]}
    for adapter in ("lora", "scalora"):
        save(tmp_path, run_record("movie", adapter, 0, **shape))
    save(tmp_path, run_record("movie", "old", 0))
    rows = tables(report(tmp_path), "## What was trained")
    assert [list(row.values()) for row in rows] == [
        ["movie", "6 by `query`, 6 by `value`", "classifier", "lora, scalora"],
        ["movie", "–", "–", "old"],
    ]


@pytest.mark.parametrize("label", ["lora", "mine"])
def test_one_adapter_alone_makes_a_whole_page(tmp_path: Path, label: str) -> None:
    for seed in range(3):
        save(tmp_path, run_record("movie", label, seed, metrics=accuracy(0.8 + seed / 50)))
    text = report(tmp_path)
    assert not re.search(r"\bnan\b", text)
    assert "::" not in text
    assert [row["adapter"] for row in tables(text, "## Leaderboard")] == [label]


def test_failures_alone_make_a_whole_page(tmp_path: Path) -> None:
    failed = {"suite": "made", "task": "movie", "fingerprint": "", "config": {}, "provenance": {}}
    refused = FailureRecord(
        **failed, adapter="lora", seed=0, kind="refused", reason="the train split is empty"
    )
    text = report(save(tmp_path, refused))
    assert "Nothing finished: one failure." in text
    assert tables(text, "## Failures")[0]["reason"] == "the train split is empty"


def test_one_seed_is_said_in_words(tmp_path: Path) -> None:
    save(tmp_path, *(run_record("movie", adapter, 0) for adapter in ("lora", "rslora", "scalora")))
    text = report(tmp_path)
    assert "1 seeds" not in text
    assert "± –" not in text
    assert "[–]" not in text
    assert "rslora, scalora (unknown: one seed to compare by; a spread needs two)" in text, "one reason, once"
