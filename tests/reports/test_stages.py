"""Claims judged after stages of seeds: which seeds count, when they were decided, and which runs go on."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from rankbench.bench.records import RecordError, RunRecord
from rankbench.reports.claims.decide import decide, measured
from rankbench.reports.claims.judge import judge
from rankbench.reports.claims.power import Asked, is_futile, seeds_needed
from rankbench.reports.claims.schema import Outcome
from rankbench.reports.claims.undecided import undecided
from rankbench.reports.frames import load
from rankbench.reports.render import markdown
from rankbench.reports.sections.verdicts import section
from rankbench.reports.stats.decision import ALPHA, CONFIDENCE, Range
from rankbench.reports.stats.evidence import Evidence, evidence
from rankbench.reports.stats.sequential import level_of, overall
from rankbench.reports.study import Study
from tests.made_items import save_answers
from tests.made_records import accuracy, run_record, save
from tests.reports.test_claims import claim

PLAN = (3, 5, 8)
SURE = np.array([5.0, 5.1, 4.9, 5.05, 4.95, 5.0, 5.1, 4.9])
UNSURE = np.array([8.0, 5.0, 8.0])
BALANCED = np.array([0.5, -0.4, 0.3, -0.6, 0.2, 0.1, -0.3, 0.4])
NOISY = np.array([5.0, -4.0, 3.0, -6.0, 2.0, 1.0, -3.0, 4.0])


def saved(folder, gains, *, stages=PLAN, task="movie", label="scalora", missing=()):
    """Runs of `lora` and a method that gains so many points with each seed."""
    for seed, gain in enumerate(gains):
        for name, shift in (("lora", 0.0), (label, gain)):
            if (name, seed) not in missing:
                config = {"adapter": {"name": name, "rank": 4}}
                metrics = accuracy(0.8 + 0.001 * seed + shift / 100)
                save(folder, run_record(task, name, seed, config=config, metrics=metrics, stages=[*stages]))
    return folder


def verdict_of(folder, **changes):
    (verdict,) = judge(load(folder), [claim(**changes)])
    return verdict


def test_stages_are_in_a_record_that_has_them_alone():
    assert "stages" not in run_record("movie", "lora", 0).model_dump_json()
    record = run_record("movie", "lora", 0, stages=[3, 5])
    assert RunRecord.model_validate_json(record.model_dump_json()).stages == [3, 5]


@pytest.mark.parametrize("stages", [[5, 3], [3, 3], [1, 3], [0], [-2, 3], ["three"], 3])
def test_stages_that_do_not_rise_are_no_record(stages):
    with pytest.raises(ValidationError, match="stages"):
        run_record("movie", "lora", 0, stages=stages)


def test_of_records_that_differ_the_most_looks_count(tmp_path):
    folder = saved(tmp_path, SURE[:3])
    saved(folder, [4.0, 5.0, 4.5], stages=(), label="rslora")
    assert load(folder).groups[0].plan == PLAN


def test_a_seed_beyond_the_plan_takes_no_place_in_it(tmp_path):
    """Seeds of before the suite had stages, which with its own would decide."""
    gains = {0: 1.0, 1: 3.0, 2: 0.5, 20: 2.0, 21: 2.1}
    (five,) = decide(claim(), [[*gains.values()]], [(3, 5)])
    assert (five.outcome, five.stage) == (Outcome.REPRODUCED, 5)
    for seed, gain in gains.items():
        for name, score in (("lora", 0.8), ("scalora", 0.8 + gain / 100)):
            config = {"adapter": {"name": name, "rank": 4}}
            save(
                tmp_path,
                run_record("movie", name, seed, config=config, metrics=accuracy(score), stages=[3, 5]),
            )
    (group,) = load(tmp_path).groups
    assert {label: [*runs] for label, runs in group.runs.items()} == {
        "lora": [0, 1, 2],
        "scalora": [0, 1, 2],
    }
    found = verdict_of(tmp_path)
    assert (found.outcome, found.stage) == (Outcome.UNDERPOWERED, None)
    assert found.evidence is not None
    assert found.evidence.seeds == 3


def test_after_the_first_stage_a_claim_must_clear_the_level_of_that_stage():
    """Of a fixed number of seeds it would hold; what remains of the level is for the stages to come."""
    values = np.array([1.0, 2.0, 1.2])
    raw = float(evidence(values).p_at_most(0.0))
    assert level_of(ALPHA, PLAN, 0) < raw < ALPHA
    (fixed,), (staged,) = decide(claim(), [values]), decide(claim(), [values], [PLAN])
    assert (fixed.outcome, staged.outcome) == (Outcome.REPRODUCED, Outcome.UNDERPOWERED)
    assert staged.p_if_untrue == pytest.approx(float(overall([raw], PLAN)))
    assert fixed.stage is staged.stage is None


@pytest.mark.parametrize(("values", "stage"), [(SURE, 3), ([9.0, 0.1, 9.0, -2.0, 9.2, 9.0, 9.1, 8.9], 8)])
def test_the_verdict_names_the_stage_that_decided(values, stage):
    for sign, outcome in ((1, Outcome.REPRODUCED), (-1, Outcome.NOT_REPRODUCED)):
        (found,) = decide(claim(), [sign * np.array(values)], [PLAN])
        assert (found.outcome, found.stage) == (outcome, stage)


def test_what_is_decided_stays_so_whatever_the_later_stages_show():
    late = np.concatenate([SURE[:3], [-9.0, 9.0, -9.0, 9.0, -9.0]])
    (found,) = decide(claim(), [late], [PLAN])
    assert (found.outcome, found.stage) == (Outcome.REPRODUCED, 3)
    assert (found.found, found.later) == (measured(claim(), SURE[:3], PLAN), measured(claim(), late, PLAN))
    assert found.later.low < 0 < found.found.low


def test_the_first_outcome_stands_though_later_stages_show_the_contrary():
    """Lopsided differences: the usual ones lie below, a few far above."""
    values = np.array([-1.0, -1.1, -0.9] + [9.0 + 0.1 * at for at in range(5)])
    assert float(evidence(values).p_at_most(0.0)) < level_of(ALPHA, PLAN, 2), "alone, all would show a gain"
    for sign, outcome in ((1, Outcome.NOT_REPRODUCED), (-1, Outcome.REPRODUCED)):
        (found,) = decide(claim(), [sign * values], [PLAN])
        assert (found.outcome, found.stage) == (outcome, 3)
    (near,) = decide(claim(margin=0.5), [np.concatenate([0.01 * values[:3], values[3:]])], [PLAN])
    assert (near.outcome, near.stage) == (Outcome.NOT_REPRODUCED, 3)
    (alike,) = decide(claim(margin=2.0), [np.array([0.01, -0.02, 0.015] + [3.0] * 2 + [3.1] * 3)], [PLAN])
    assert (alike.outcome, alike.stage) == (Outcome.EQUIVALENT, 3)


def test_what_was_learned_at_some_stage_is_so_whatever_a_later_seed_shows(tmp_path):
    """Of two methods that beat a constant answer after three seeds and collapse with the fourth."""
    generator = np.random.default_rng(5)
    right = {"lora": 0.8, "scalora": 0.95}
    outcomes = []
    for seeds in (3, 5):
        folder = tmp_path / f"{seeds}"
        for name, share in right.items():
            answers = generator.random((seeds, 400)) < share
            answers[3:] = np.arange(400) < 200
            config = {"adapter": {"name": name, "rank": 4}}
            save_answers(folder, name, answers, config=config, stages=[*PLAN])
        (verdict,) = judge(load(folder), [claim(direction="superior")])
        outcomes.append((verdict.outcome, verdict.stage, verdict.reason))
    assert outcomes[0] == outcomes[1] == (Outcome.REPRODUCED, 3, "")


def test_a_verdict_shows_what_decided_it_and_what_came_later(tmp_path):
    study = Study(load(saved(tmp_path, [*SURE[:3], -9.0, 9.0])), claims=[claim()])
    (verdict,) = study.verdicts
    text = markdown.section(section(study))
    assert f"{verdict.found}; with later seeds {verdict.later}" in text
    assert (verdict.found.n, verdict.later.n) == (3, 5)


def test_seeds_between_two_stages_wait_and_those_beyond_the_last_do_not_count():
    for seeds, counted in ((3, 3), (4, 3), (5, 5), (7, 5), (8, 8)):
        (found,) = decide(claim(), [NOISY[:seeds]], [PLAN])
        (whole,) = decide(claim(), [NOISY[:counted]], [PLAN])
        assert (found.p_if_untrue, found.p_if_true, found.found) == (
            whole.p_if_untrue,
            whole.p_if_true,
            whole.found,
        )
        assert found.found.n == counted
    (more,) = decide(claim(), [np.concatenate([NOISY, [99.0, 98.0]])], [PLAN])
    assert more == decide(claim(), [NOISY], [PLAN])[0]


def test_before_the_first_stage_nothing_is_judged(tmp_path):
    found = verdict_of(saved(tmp_path, SURE[:2]))
    assert (found.outcome, found.reason) == (Outcome.UNDERPOWERED, "2 seeds: judged after 3")
    assert math.isinf(found.found.low)
    assert undecided(Study(load(tmp_path), claims=[claim()])) == {("movie", "lora"), ("movie", "scalora")}


def test_the_next_seed_takes_the_place_of_one_that_failed(tmp_path):
    folder = saved(tmp_path, [5.0, 99.0, 5.1, 4.9, 5.05], missing=[("scalora", 1)])
    found = verdict_of(folder)
    assert (found.found.n, found.found.estimate) == (3, pytest.approx(5.0))
    assert (found.outcome, found.stage) == (Outcome.REPRODUCED, 3)


def test_the_interval_is_the_repeated_one_of_the_last_complete_stage():
    found = measured(claim(), NOISY[:6], PLAN)
    tail = level_of((1 - CONFIDENCE) / 2, PLAN, 1)
    assert found[1:3] == pytest.approx(evidence(NOISY[:5]).interval(1 - 2 * tail))
    narrow = measured(claim(), NOISY[:5])
    assert found.low < narrow.low < narrow.high < found.high


def test_holm_corrects_over_the_rows_of_staged_claims_too():
    one, two = (decide(claim(), [UNSURE] * rows, [PLAN] * rows) for rows in (1, 2))
    assert two[0].p_if_untrue == pytest.approx(2 * one[0].p_if_untrue)


@pytest.mark.parametrize(
    ("measurement", "margin", "values", "outcome"),
    [
        ("score", 1.0, NOISY / 20, Outcome.EQUIVALENT),
        ("score", 0.1, NOISY / 20, Outcome.UNDERPOWERED),
        ("score", 9.0, SURE, Outcome.REPRODUCED),  # within the margin too: what is claimed comes first
        ("score", 9.0, -SURE, Outcome.NOT_REPRODUCED),
        ("final_loss", 0.02, NOISY / 1000, Outcome.EQUIVALENT),
        ("final_loss", 0.001, NOISY / 1000, Outcome.UNDERPOWERED),
    ],
)
def test_a_difference_within_the_margin_is_equivalent(measurement, margin, values, outcome):
    made = claim(measurement=measurement, margin=margin)
    for plans in (None, [PLAN]):
        (found,) = decide(made, [values], plans)
        assert found.outcome is outcome
        assert (found.p_if_apart < ALPHA) is (outcome is Outcome.EQUIVALENT or margin == 9.0)


def test_a_ratios_margin_is_the_same_upside_down():
    made = claim(measurement="final_loss", margin=0.02)
    assert (made.alike.low, made.alike.high) == pytest.approx((0.98, 1 / 0.98))
    values = NOISY / 1000
    there, back = (decide(made, [sign * values])[0].p_if_apart for sign in (1, -1))
    assert there == pytest.approx(back)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"margin": 0}, "greater than 0"),
        ({"margin": -1}, "greater than 0"),
        ({"margin": math.nan}, "finite number"),
        ({"margin": math.inf}, "finite number"),
        ({"margin": "one point"}, "valid number"),
        ({"margin": 1, "direction": "equivalent"}, "for `equivalent` it is the tolerance"),
        ({"margin": 2, "measurement": "final_loss"}, "a share below 1, such as 0.02, not 2"),
        ({"margin": 1, "direction": "above", "value": 1, "against": None, "measurement": "drift"},
         "of a difference"),
    ],
)  # fmt: skip
def test_a_margin_that_says_nothing_is_refused(changes, told):
    with pytest.raises(ValidationError, match=told):
        claim(**changes)


def test_pairs_that_are_decided_stop_and_the_baseline_goes_on_with_the_others(tmp_path):
    folder = saved(tmp_path, SURE[:3])
    saved(folder, NOISY[:3], label="rslora")
    saved(folder, NOISY[:3] / 100, label="full", task="other")
    claims = [claim(id=name, method=name, margin=0.5) for name in ("scalora", "rslora", "full")]
    assert undecided(Study(load(folder), claims=claims)) == {("movie", "lora"), ("movie", "rslora")}
    assert undecided(Study(load(folder), claims=claims[:1])) == set()


def test_no_seed_is_spent_on_a_claim_that_twice_the_most_would_not_decide(tmp_path):
    """But on the first stage's spread nothing is given up, and a claim within reach keeps its pair."""
    pair = {("movie", "lora"), ("movie", "scalora")}
    hopeless, near = claim(id="hopeless", margin=0.01), claim(id="near", margin=0.6)
    for seeds, going in ((3, pair), (4, pair), (5, set()), (7, set())):
        folder = saved(tmp_path / f"{seeds}", BALANCED[:seeds])
        assert undecided(Study(load(folder), claims=[hopeless])) == going
        assert undecided(Study(load(folder), claims=[near, hopeless])) == pair
    for seeds in (3, 4):
        balanced = saved(tmp_path / f"early {seeds}", [0.5, -0.5, 0.0, 0.0][:seeds])
        assert undecided(Study(load(balanced), claims=[hopeless])) == pair, "three would say it is hopeless"
    sooner = saved(tmp_path / "one", BALANCED[:5], stages=(3,))
    assert undecided(Study(load(sooner), claims=[hopeless])) == pair, "there is no second stage"


@pytest.mark.parametrize("estimate", [0.3, -0.3])
def test_a_claim_is_given_up_if_a_difference_larger_by_its_standard_error_is_out_of_reach(estimate):
    found = evidence(BALANCED[:5] + estimate)
    question = Asked(found, claim().acceptance, None, PLAN, ALPHA, ALPHA)
    assert not is_futile(question), "at 0.3 itself it would take more than 16 seeds, at 0.5 fewer"
    assert seeds_needed(question)[0] > 16 > seeds_needed(question._replace(found=further(found)))[0]
    assert is_futile(question._replace(found=replace(found, estimate=found.estimate / 4)))


def test_what_is_given_up_does_not_turn_on_the_claims_other_rows():
    """Else a cell that had stopped would go on once they are decided."""
    found = evidence(BALANCED[:5] + 0.2)
    question = Asked(found, claim().acceptance, None, PLAN, ALPHA / 12, ALPHA / 12)
    assert seeds_needed(question._replace(found=further(found)))[0] > 16
    assert not is_futile(question)


def test_equivalence_is_out_of_reach_only_if_it_is_from_the_middle_of_the_margin():
    """Which here lies 0.4 standard errors away; the items' half of the variance stays."""
    found = Evidence(np.float64(0.4), np.float64(0.5), np.float64(0.5), seeds=5, items=400)
    question = Asked(found, claim().acceptance, Range(-2.4, 2.4), (3, 5, 8, 12, 20, 40), ALPHA, ALPHA)
    for estimate, expected in ((-0.6, False), (0.4, False), (1.4, False), (0.0, True)):
        there = question._replace(found=replace(found, estimate=np.float64(estimate)))
        assert any(seeds and seeds <= 80 for seeds in seeds_needed(there)) is expected
    assert not is_futile(question)


@pytest.mark.parametrize(("items", "futile"), [(0.7, True), (0.01, False)])
def test_a_claim_that_only_more_items_would_decide_is_given_up(items, futile):
    """Within one point of accuracy: an error of 0.8 points from the items stays with any number of seeds."""
    found = Evidence(np.float64(0.3), np.float64(0.01), np.float64(items), seeds=5, items=872)
    question = Asked(found, claim().acceptance, Range(-1.0, 1.0), PLAN, ALPHA, ALPHA)
    assert is_futile(question) is futile


def further(found):
    """Its difference larger by a standard error."""
    error = math.copysign(found.standard_error, found.estimate)
    return replace(found, estimate=found.estimate + error)


def test_the_report_says_at_which_stage_and_by_which_margin(tmp_path):
    folder = saved(tmp_path, NOISY[:5] / 100)
    text = markdown.section(section(Study(load(folder), claims=[claim(margin=0.5)])))
    assert "Equivalent if -0.5 to 0.5 points." in text
    assert "claims were judged after 3, 5 and 8 seeds" in text
    row = next(line for line in text.splitlines() if line.startswith("| EQUIVALENT"))
    assert [cell.strip() for cell in row.split("|")][-3:-1] == ["3 of 8", "–"]
    noisy = Study(load(saved(tmp_path / "open", NOISY)), claims=[claim()])
    lines = markdown.section(section(noisy)).splitlines()
    row = next(line for line in lines if line.startswith("| UNDERPOWERED"))
    assert [cell.strip() for cell in row.split("|")][-3:-1] == ["–", "over 80"]
    plain = markdown.section(section(Study(load(saved(tmp_path / "b", NOISY, stages=())), claims=[claim()])))
    assert "EQUIVALENT" not in plain
    assert "decided after" not in plain


def test_seeds_of_an_older_configuration_that_are_needed_no_more_are_named(tmp_path):
    """A run that is decided earlier than before renews none of them, so that it alone is no way out."""
    folder = saved(tmp_path, SURE[:3])
    config = {"adapter": {"name": "lora", "rank": 8}}
    save(folder, run_record("movie", "lora", 3, config=config, stages=[*PLAN]))
    with pytest.raises(RecordError, match=r"movie--lora differ in adapter\.rank; .*delete those that it"):
        load(folder)
