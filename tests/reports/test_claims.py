"""Claims and verdicts: made records with known answers, one for each outcome."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from rankbench.bench.records import Forgetting, Metrics, Observation
from rankbench.reports.claims.judge import judge
from rankbench.reports.claims.measurements import MEASUREMENTS
from rankbench.reports.claims.published import CLAIMS, PUBLISHED, read_checked
from rankbench.reports.claims.schema import OURS, Claim, Claims, Outcome, load_claims
from rankbench.reports.frames import load
from rankbench.reports.render import markdown
from rankbench.reports.sections import in_brief
from rankbench.reports.sections.paper_figures.ranks import gradient
from rankbench.reports.sections.verdicts import section
from rankbench.reports.stats.decision import CONFIDENCE, Test, interval
from rankbench.reports.study import Study
from tests.made_records import accuracy, curve, overhead_record, run_record, save

LIKE = {
    "id": "made", "paper": "2510.23818", "sentence": "s", "source": "s", "hand": "first",
    "measurement": "score", "method": "scalora", "against": "lora", "direction": "superior",
    "tolerance": 0, "unit": "points", "why": "w", "test": "paired seeds and items",
}  # fmt: skip


def drawn_up(study):
    return markdown.section(section(study))


def claim(**changes):
    given = LIKE | changes
    if "test" not in changes and given["measurement"] != "score":
        given["test"] = "paired seeds"
    return Claim.model_validate({key: value for key, value in given.items() if value is not None})


def scores(folder, method, baseline, *, ranks=(4, 4), protocols=(64, 64), **changes):
    """Runs of `scalora` and `lora` on one task with these scores, a seed each."""
    pairs = zip(("scalora", "lora"), (method, baseline), ranks, protocols, strict=True)
    for label, values, rank, length in pairs:
        for seed, value in enumerate(values):
            config = {"adapter": {"name": label, "rank": rank}}
            fixed = {"config": config, "protocol": {"length": length}, "metrics": accuracy(value)}
            save(folder, run_record("movie", label, seed, **(fixed | changes)))
    return folder


def only_verdict(folder, made):
    (verdict,) = judge(load(folder), [made])
    return verdict


BASE = [0.80, 0.81, 0.79]
BETTER = [0.85, 0.87, 0.83]
"""Gains of 5, 6 and 4 points: mean 5, sd 1."""


def test_the_interval_is_students_over_paired_seeds(tmp_path):
    found = only_verdict(scores(tmp_path, BETTER, BASE), claim()).found
    low, high = stats.t.interval(CONFIDENCE, 2, loc=5.0, scale=1 / math.sqrt(3))
    assert (found.estimate, found.low, found.high) == pytest.approx((5.0, low, high))
    assert found.n == 3


@pytest.mark.parametrize(
    ("direction", "tolerance", "outcome"),
    [
        ("superior", 0, Outcome.REPRODUCED),  # the interval is 3.31 to 6.69
        ("superior", 3.3, Outcome.REPRODUCED),
        ("superior", 3.4, Outcome.UNDERPOWERED),
        ("superior", 6.7, Outcome.NOT_REPRODUCED),
        ("not inferior", 1, Outcome.REPRODUCED),
        ("equivalent", 6.7, Outcome.REPRODUCED),
        ("equivalent", 5, Outcome.UNDERPOWERED),
        ("equivalent", 3, Outcome.NOT_REPRODUCED),
    ],
)
def test_the_interval_is_set_against_the_tolerance(tmp_path, direction, tolerance, outcome):
    folder = scores(tmp_path, BETTER, BASE)
    assert only_verdict(folder, claim(direction=direction, tolerance=tolerance)).outcome is outcome


@pytest.mark.parametrize(
    ("tolerance", "outcome"),
    [(7, Outcome.REPRODUCED), (5, Outcome.UNDERPOWERED), (3, Outcome.NOT_REPRODUCED)],
)
def test_a_loss_of_score_is_inferior_beyond_the_tolerance(tmp_path, tolerance, outcome):
    folder = scores(tmp_path, BASE, BETTER)
    assert only_verdict(folder, claim(direction="not inferior", tolerance=tolerance)).outcome is outcome


def test_differences_that_are_all_alike_have_no_known_spread(tmp_path):
    folder = scores(tmp_path, BASE, BASE)
    for direction in ("superior", "not inferior", "equivalent"):
        verdict = only_verdict(folder, claim(direction=direction, tolerance=1))
        assert (verdict.outcome, verdict.found.estimate) == (Outcome.UNDERPOWERED, 0.0)


def test_one_seed_says_nothing(tmp_path):
    verdict = only_verdict(scores(tmp_path, [0.99], [0.50]), claim())
    assert verdict.outcome is Outcome.UNDERPOWERED
    assert math.isinf(verdict.found.high)


def test_without_runs_of_both_the_claim_is_not_run(tmp_path):
    verdict = only_verdict(scores(tmp_path, BETTER, BASE), claim(against="scalora-no-moments"))
    assert (verdict.outcome, verdict.reason) == (Outcome.NOT_RUN, "no score of scalora-no-moments")
    unlike = scores(tmp_path / "seeds", [0.9], [])
    save(unlike, run_record("movie", "lora", 7, protocol={"length": 64}))
    assert only_verdict(unlike, claim()).reason == "no common seed"


def test_another_rank_is_another_protocol(tmp_path):
    folder = scores(tmp_path, BETTER, BASE, ranks=(4, 16))
    verdict = only_verdict(folder, claim(ratio={"rank": 1}))
    assert (verdict.outcome, verdict.reason) == (Outcome.PROTOCOL_DIFFERS, "rank: 4 and 16, not 1 to 1")
    assert only_verdict(folder, claim(ratio={"rank": 4})).outcome is Outcome.REPRODUCED


def test_a_rank_that_is_near_is_another_one(tmp_path):
    folder = scores(tmp_path, BETTER, BASE, ranks=(20, 21))
    assert only_verdict(folder, claim(ratio={"rank": 1})).outcome is Outcome.PROTOCOL_DIFFERS


def test_a_pattern_takes_the_method_that_has_the_ratio(tmp_path):
    folder = scores(tmp_path, BETTER, BASE)
    for seed, value in enumerate(BASE):
        wide = {"adapter": {"name": "lora", "rank": 16}}
        save(
            folder,
            run_record(
                "movie", "lora-r16", seed, config=wide, protocol={"length": 64}, metrics=accuracy(value)
            ),
        )
    verdict = only_verdict(folder, claim(against="lora", ratio={"rank": 4}))
    assert (verdict.methods, verdict.outcome) == ("scalora against lora-r16", Outcome.REPRODUCED)


def test_parameters_may_be_a_little_off_the_ratio(tmp_path):
    folder = scores(tmp_path, BETTER, BASE)
    for seed in range(3):
        counts = {"total": 100_000, "trainable": 9410, "adapter": 9410}  # 7.84 times 1200
        save(
            folder,
            run_record(
                "movie", "big", seed, parameters=counts, protocol={"length": 64}, metrics=accuracy(0.8)
            ),
        )
    assert only_verdict(folder, claim(against="big", ratio={"parameters": 8})).outcome is Outcome.REPRODUCED
    assert (
        only_verdict(folder, claim(against="big", ratio={"parameters": 4})).outcome
        is Outcome.PROTOCOL_DIFFERS
    )


def test_methods_run_under_different_protocols_are_not_compared(tmp_path):
    verdict = only_verdict(scores(tmp_path, BETTER, BASE, protocols=(64, 128)), claim())
    assert verdict.outcome is Outcome.PROTOCOL_DIFFERS
    assert verdict.reason == "run under different protocols: length"


def test_a_claim_of_one_model_is_not_judged_on_another(tmp_path):
    folder = scores(tmp_path, BETTER, BASE)
    verdict = only_verdict(folder, claim(only={"model": "DeBERTaV3-base"}))
    assert (verdict.outcome, verdict.reason) == (Outcome.PROTOCOL_DIFFERS, "model: tiny, not DeBERTaV3-base")
    assert only_verdict(folder, claim(only={"model": "Tiny"})).outcome is Outcome.REPRODUCED


@pytest.mark.parametrize(
    ("model", "weights"), [("none", "task's own"), ("tiny", 'random:{"hidden_size": 32}')]
)
def test_a_claim_about_training_is_judged_on_pretrained_models_alone(tmp_path, model, weights):
    folder = scores(tmp_path, BETTER, BASE, model=model, provenance={"weights": weights})
    verdict = only_verdict(folder, claim(only={"pretrained": True}))
    assert (verdict.outcome, verdict.reason) == (
        Outcome.PROTOCOL_DIFFERS,
        f"model: {model}, not a pretrained one",
    )
    learned = scores(tmp_path / "learned", BETTER, BASE, provenance={"weights": "sha256:ab"})
    assert only_verdict(learned, claim(only={"pretrained": True})).outcome is Outcome.REPRODUCED


def test_errors_are_no_scores_but_losses_are_ratios(tmp_path):
    error = {"main": "mse", "best": {"mse": 0.5}, "last": {"mse": 0.5}, "lower_is_better": True}
    changes = {"metrics": Metrics(**error, best_step=5, last_step=10)}
    folder = scores(tmp_path, BETTER, BASE, **changes)
    assert only_verdict(folder, claim()).outcome is Outcome.NOT_RUN
    for seed in range(3):
        save(
            folder,
            run_record(
                "movie",
                "half",
                seed,
                metrics=changes["metrics"],
                protocol={"length": 64},
                curve=curve([(0.49 + 0.01 * seed) * (10 - step) / 10 for step in range(10)]),
            ),
        )
    verdict = only_verdict(folder, claim(method="half", measurement="final_loss"))
    assert verdict.found.estimate == pytest.approx((0.49 * 0.50 * 0.51) ** (1 / 3))
    assert verdict.outcome is Outcome.REPRODUCED
    assert (
        only_verdict(folder, claim(method="lora", against="half", measurement="final_loss")).outcome
        is Outcome.NOT_REPRODUCED
    )


def ranks(values, gradient=()):
    named, of_gradient = ({f"layer.{i}": value for i, value in enumerate(v)} for v in (values, gradient))
    return [Observation(step=10, accumulated_rank=named, gradient_rank=of_gradient)]


def test_a_share_of_wrong_answers_is_an_error_and_no_score(tmp_path):
    """More of it is worse: ten points more are no gain in accuracy."""
    name = "sklearn/zero_one_loss"
    for label, wrong in (("scalora", [0.30, 0.33, 0.31]), ("lora", [0.20, 0.22, 0.19])):
        for seed, share in enumerate(wrong):
            found = {name: share}
            metrics = Metrics(main=name, best=found, last=found, best_step=5, last_step=10)
            config = {"adapter": {"name": label, "rank": 4}}
            save(tmp_path, run_record("movie", label, seed, config=config, metrics=metrics))
    assert only_verdict(tmp_path, claim()).outcome is Outcome.NOT_RUN
    by_error = claim(measurement="error", direction="not inferior")
    assert only_verdict(tmp_path, by_error).outcome is Outcome.NOT_REPRODUCED


def test_every_layer_counts_but_those_that_one_position_an_input_feeds():
    record = run_record(
        "movie", "scalora", 0, config={"adapter": {"name": "scalora", "rank": 4}},
        observations=ranks([8, 8], [1, 9, 40, 7]),
    )  # fmt: skip
    read = MEASUREMENTS["gradient_rank_share"].read
    assert read(record) == 50.0
    assert gradient(record)[1] == [1]
    record.observations[0].one_position = ["layer.0"]
    assert read(record) == pytest.approx(100 * 2 / 3)
    assert gradient(record)[1] == [7]
    record.observations[0].one_position = [f"layer.{i}" for i in range(4)]
    assert (read(record), gradient(record)) == (None, None)


def test_records_that_do_not_name_layers_of_one_position_are_not_judged_by_gradients():
    """The batch bounds a pooler's rank, whatever the method: 4 of 8 asked for is no failure of ScaLoRA's."""
    record = run_record(
        "movie", "scalora", 0, schema_version=1, config={"adapter": {"name": "scalora", "rank": 4}},
        observations=ranks([8, 8], [9, 40, 4]),
    )  # fmt: skip
    read = MEASUREMENTS["gradient_rank_share"].read
    assert read(record) is None
    assert read(record.model_copy(update={"schema_version": 2})) == pytest.approx(100 * 2 / 3)


def test_a_method_that_was_run_otherwise_than_the_claim_says_is_told_from_one_that_was_not(tmp_path):
    folder = scores(tmp_path, BETTER, BASE)
    wide = {"name": "wide", "adapter": "scalora", "settings": {"rank": 999}}
    assert only_verdict(folder, claim(method=wide)).reason == "no score of wide with the claim's settings"
    assert only_verdict(folder, claim(method="hira")).reason == "no score of hira"


def test_a_claim_matches_the_adapter_and_its_settings(tmp_path):
    """Whatever the suite calls them; and a label that looks like a method is none."""
    named = {
        "plain": ({"name": "lora", "rank": 4}, BASE),
        "mine": ({"name": "scalora", "rank": 4, "carry_moments": True, "smoothness": 300}, BETTER),
        "lora": ({"name": "scalora", "rank": 4, "carry_moments": False}, BASE),
        "scalora": ({"name": "full"}, BASE),
    }
    for label, (adapter, values) in named.items():
        for seed, value in enumerate(values):
            config = {"adapter": adapter}
            save(tmp_path, run_record("movie", label, seed, config=config, metrics=accuracy(value)))
    found = {each.claim.id: each for each in judge(load(tmp_path), load_claims())}
    assert found["scalora-above-lora"].methods == "mine against plain"
    assert found["moment-rule-matters"].methods == "mine against lora"


@pytest.mark.parametrize(
    ("given", "fits"),
    [
        ({}, {"scalora"}),
        ({"interval": 1, "carry_moments": True}, {"scalora"}),
        ({"interval": 10}, set()),  # which is what `scalora-i` is at its default
        ({"interval": 1, "carry_moments": False}, {"scalora-no-moments"}),
    ],
)
def test_a_setting_that_is_the_adapters_own_need_not_be_said(given, fits):
    methods = read_checked(PUBLISHED / CLAIMS, Claims).methods
    named = {method.name for method in methods if method.fits({"name": "scalora"} | given)}
    assert named - {"variant"} == fits


@pytest.mark.parametrize(
    ("target", "terms", "fits"),
    [
        (8, ["uv", "UV", "PQ"], {"lora2-whole"}),
        (4, ["uv", "UV", "PQ"], {"lora2", "lora2-wide"}),
        (4, ["PQ"], {"lora2-fewer-regularisers"}),
        (4, None, {"lora2-fewer-regularisers"}),  # before there was a choice; of another penalty
    ],
)
def test_a_setting_may_be_told_by_another(target, terms, fits):
    methods = read_checked(PUBLISHED / CLAIMS, Claims).methods
    given = {"name": "lora2", "rank": 8, "width": 8, "target_rank": target}
    given |= {"regularisers": terms} if terms else {}
    named = {method.name for method in methods if method.fits(given)}
    assert named == fits | {"lora2-any", "variant"}


def test_rank_shares_and_penalties_are_read_from_the_record():
    block = {"step": [0, 10], "share": [1.0, 0.5]}
    record = run_record(
        "movie", "scalora", 0, config={"adapter": {"rank": 4}},
        observations=ranks([6, 8], [7, 8]) + ranks([8, 12], [9, 40]) + ranks([8, 12]),
        diagnostics={"nonnegative_share": block, "scores_saved": 0.985},
        curve=curve([1.0] * 20).model_copy(update={"penalty": [4.0] * 18 + [1.0, 2.0]}),
    )  # fmt: skip
    wanted = {
        "accumulated_rank": 12, "accumulated_rank_over_r": 2.5, "nonnegative_share": 75.0,
        "gradient_rank_share": 75.0, "scores_saved": 98.5, "penalty_left": 0.375, "parameter_share": 100
        * 1200 / 98_800, "score": 80.0,
    }  # fmt: skip
    for name, value in wanted.items():
        assert MEASUREMENTS[name].read(record) == pytest.approx(value), name
    bare = run_record("movie", "lora", 0, curve=curve([]))
    for name in wanted.keys() - {"parameter_share", "score"} | {"final_loss"}:
        assert MEASUREMENTS[name].read(bare) is None, name


def test_losses_and_forgetting_are_read_from_the_record():
    rose, drifted = (Forgetting(kind=kind, value=0.2, items=48, text="ab") for kind in ("loss", "drift"))
    record = run_record("bbc", "lora", 0, metrics=accuracy(0.8, nll=0.5), forgetting=rose)
    read = {name: MEASUREMENTS[name].read for name in ("held_out_loss", "forgetting", "drift")}
    assert [one(record) for one in read.values()] == [0.5, 0.2, None]
    assert read["drift"](run_record("movie", "lora", 0, forgetting=drifted)) == 0.2
    assert [one(run_record("movie", "lora", 0)) for one in read.values()] == [None, None, None]


def test_a_rank_that_never_moves_is_at_most_r_and_not_above(tmp_path):
    for seed in range(3):
        save(
            tmp_path,
            run_record("movie", "lora", seed, config={"adapter": {"rank": 4}}, observations=ranks([4, 4])),
        )
    own = {
        "measurement": "accumulated_rank_over_r",
        "method": "lora",
        "against": None,
        "value": 1,
        "test": "seeds",
    }
    assert only_verdict(tmp_path, claim(**own, direction="at most")).outcome is Outcome.REPRODUCED
    assert only_verdict(tmp_path, claim(**own, direction="above")).outcome is Outcome.NOT_REPRODUCED


def test_slopes_over_ranks_are_per_doubling(tmp_path):
    for seed in range(3):
        for rank in (4, 16, 64):
            noise = 1 + 0.001 * seed
            for base, norm, loss in (
                ("lora", rank**-0.5, 0.7),
                ("rslora", 1.0, 0.9 - 0.05 * math.log2(rank)),
            ):
                made = curve([loss * noise] * 10, gradient_norm=norm * noise)
                config = {"adapter": {"name": base, "rank": rank}}
                save(tmp_path, run_record("ranks", f"{base}-r{rank}", seed, curve=made, config=config))
    slope = {"measurement": "gradient_norm_slope", "against": None, "value": 0, "test": "seeds", "unit": "u"}
    fall = only_verdict(tmp_path, claim(**slope, method="lora", direction="below"))
    assert fall.found.estimate == pytest.approx(-0.5)
    assert fall.outcome is Outcome.REPRODUCED
    assert (
        only_verdict(tmp_path, claim(**slope, method="rslora", direction="below")).outcome
        is not Outcome.REPRODUCED
    )
    paired = {"method": "rslora", "against": "lora", "direction": "superior"}
    assert only_verdict(
        tmp_path, claim(measurement="gradient_norm_slope", **paired)
    ).found.estimate == pytest.approx(0.5)
    loss = only_verdict(tmp_path, claim(measurement="final_loss_slope", **paired))
    assert loss.found.estimate == pytest.approx(-0.05 * 1.001)
    assert loss.outcome is Outcome.REPRODUCED


COST = {"direction": "not inferior", "tolerance": 0.05, "test": "paired processes"}
TIME, MEMORY = COST | {"measurement": "step_time"}, COST | {"measurement": "peak_memory"}


def test_costs_are_ratios_of_one_process(tmp_path):
    """A mean over the rounds, since every tenth step may cost more; n counts processes."""
    lora = [0.1, 0.2, 0.1, 0.2, 0.3]
    ratios = {"scalora": [1.5, 1.51, 1.49, 1.5, 1.5], "scalora-i": [1.0, 1.02, 0.99, 1.0, 1.01]}
    seconds = {"lora": [[x] * 9 + [x] for x in lora]} | {
        label: [[x] * 9 + [10 * x * y - 9 * x] for x, y in zip(lora, of_processes, strict=True)]
        for label, of_processes in ratios.items()
    }
    peaks = {"lora": [800.0] * 5, "scalora": [880.0] * 5, "scalora-i": [800.0, 810.0, 805.0, 802.0, 803.0]}
    save(tmp_path, overhead_record(seconds, peak_resident=peaks))
    slow = only_verdict(tmp_path, claim(**TIME))
    assert (slow.found.estimate, slow.found.n) == (pytest.approx(1.5, abs=1e-3), 5)
    assert slow.outcome is Outcome.NOT_REPRODUCED
    assert only_verdict(tmp_path, claim(**TIME, method="scalora-i")).outcome is Outcome.REPRODUCED
    assert only_verdict(tmp_path, claim(**MEMORY, method="scalora-i")).outcome is Outcome.REPRODUCED
    # 880 beside 800 in each of five processes: nothing varies.
    assert only_verdict(tmp_path, claim(**MEMORY)).outcome is Outcome.NOT_REPRODUCED
    wide = MEMORY | {"tolerance": 0.15}
    assert only_verdict(tmp_path, claim(**wide)).outcome is Outcome.REPRODUCED


def test_rounds_of_one_process_decide_nothing(tmp_path):
    """As one commit once had it: fifty rounds that agree on 1.00, and in another process on 1.20."""
    lora = [0.1, 0.101, 0.099, 0.1, 0.1] * 10
    for factor in (1.0, 1.2):
        save(tmp_path, overhead_record({"lora": lora, "scalora": [factor * x for x in lora]}))
        for given in (TIME, MEMORY):
            found = only_verdict(tmp_path, claim(**given))
            assert (found.outcome, found.found.n) == (Outcome.UNDERPOWERED, 1)
            assert found.reason.startswith("one process: its rounds are no replicates")


def test_processes_that_disagree_decide_nothing(tmp_path):
    """However well the rounds inside each of them agree."""
    factors = [1.0, 1.2, 0.95, 1.25, 1.05]
    seconds = {"lora": [[0.1] * 50] * 5, "scalora": [[0.1 * factor] * 50 for factor in factors]}
    save(tmp_path, overhead_record(seconds))
    assert only_verdict(tmp_path, claim(**TIME)).outcome is Outcome.UNDERPOWERED


def test_what_is_exact_has_the_range_of_its_values():
    assert interval([1.0, 3.0], Test.EXACT)[:3] == (2.0, 1.0, 3.0)


def test_the_table_shows_the_numbers(tmp_path):
    suite = load(scores(tmp_path, BETTER, BASE))
    study = Study(suite, claims=[claim(tolerance=1)])
    text = drawn_up(study)
    for words in (
        "REPRODUCED",
        "movie",
        "tiny",
        "scalora against lora",
        "5 [3.314, 6.686] (3)",
        "> 1 points",
    ):
        assert words in text
    assert "in our words" in text


def test_every_committed_claim_gets_a_verdict_without_runs(tmp_path):
    suite = load(save(tmp_path, run_record("movie", "full", 0)))
    verdicts = judge(suite, load_claims())
    assert [verdict.outcome for verdict in verdicts] == [Outcome.NOT_RUN] * len(load_claims())


def test_claims_that_no_run_speaks_of_take_one_line(tmp_path):
    for adapter in ("lora", "mine"):
        for seed in range(3):
            config = {"adapter": {"name": adapter, "rank": 4}}
            save(tmp_path, run_record("movie", adapter, seed, config=config, observations=ranks([4])))
    text = drawn_up(Study.read(tmp_path))
    (line,) = (line for line in text.splitlines() if "(no step_time of scalora-i or lora)" in line)
    assert line.startswith("- Scaling every tenth step costs the time of LoRA's step. ")
    rows = [row for row in text.splitlines() if row.startswith("|")]
    assert rows
    assert not any("NOT RUN |" in row for row in rows[2:])
    nothing = drawn_up(Study(load(tmp_path), claims=[claim(), claim(id="other", against="none")]))
    assert nothing.splitlines()[2:-2] == [
        "<details>",
        "<summary>Not run here: 2</summary>",
        "",
        "- s (no score of scalora) arXiv 2510.23818: s (first-hand).",
        "- s (no score of scalora or none) arXiv 2510.23818: s (first-hand).",
    ]


def test_runs_of_one_seed_do_not_keep_costs_of_several_processes_from_being_judged(tmp_path):
    """The process is the unit of a cost: five of them say what a step of each method costs."""
    save(tmp_path, *(run_record("movie", adapter, 0) for adapter in ("lora", "scalora-i")))
    seconds = {
        name: [[value * (1 + process / 1000)] * 4 for process in range(5)]
        for name, value in {"floor": 0.06, "lora": 0.1, "scalora": 0.2, "scalora-i": 0.101}.items()
    }
    seconds["scalora"][0], seconds["scalora-i"][1] = [0.21] * 4, [0.1012] * 4
    adapters = {name: {"name": name, "rank": 4} for name in ("lora", "scalora", "scalora-i")}
    config = {"batch": 8, "length": 32, "adapters": adapters}
    save(tmp_path, overhead_record(seconds, config=config, peak_resident={}))
    text = drawn_up(Study.read(tmp_path))
    assert "**REPRODUCED.**" in text
    assert "No claim on the runs is judged: every method ran with one seed" in text
    told = markdown.section(in_brief.section(Study.read(tmp_path)))
    assert "**What holds of the papers.** Of 2 claims that these runs can test" in told


def test_of_one_seed_every_claim_is_named_and_none_judged(tmp_path):
    save(tmp_path, *(run_record("movie", adapter, 0) for adapter in ("lora", "scalora")))
    text = drawn_up(Study.read(tmp_path))
    assert "of one seed nothing follows" in text
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    for line, one in zip(lines, load_claims(), strict=True):
        asked = "Our question" if one.paper == OURS else f"arXiv {one.paper}"
        assert line.startswith(f"- {one.sentence} {asked}: {one.source}")
    assert "REPRODUCED" not in text
