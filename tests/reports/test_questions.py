"""The questions in brief: one line each, with the comparison that decided and what is open."""

from __future__ import annotations

import re
from pathlib import Path

from rankbench.reports.claims.power import power
from rankbench.reports.claims.schema import Claim, found_claims
from rankbench.reports.frames import load
from rankbench.reports.render import markdown
from rankbench.reports.sections import in_brief
from rankbench.reports.study import Study
from tests.reports.test_claims import claim
from tests.reports.test_stages import NOISY, PLAN, SURE, saved

ASKED = "Does it help?"
OPEN = [2.5, -1.0, 3.0, 0.5, 2.0]
ALIKE = [0.01, -0.02, 0.015, -0.01, 0.02]


def study(folder: Path, *claims: Claim) -> Study:
    return Study(load(folder), claims=claims or [claim(question=ASKED, margin=1.0)])


def line(made: Study, lead: str = ASKED) -> str:
    """With what stands below it."""
    text = markdown.section(in_brief.section(made))
    (found,) = (each for each in text.split("\n- ") if each.startswith(f"**{lead}**"))
    return found.rstrip()


def test_a_question_is_answered_by_what_decided_it(tmp_path: Path) -> None:
    made = study(saved(tmp_path, SURE[:5]))
    (verdict,) = made.verdicts
    told = line(made)
    assert told.startswith(f"**{ASKED}** REPRODUCED.\n  - [")
    assert f"](#claim-{verdict.claim.id}); movie, scalora against lora: {verdict.found} points" in told
    assert told.endswith(f"decided after 3 seeds; with later seeds {verdict.later}")


def test_an_answer_counts_its_comparisons_and_says_what_is_open(tmp_path: Path) -> None:
    saved(tmp_path, SURE[:5])
    saved(tmp_path, -SURE[:5], task="cola")
    saved(tmp_path, ALIKE, task="sst2")
    made = study(saved(tmp_path, OPEN, task="bbc"))
    (needed,) = power(made)
    ways = ((needed.to_decide, ""), (needed.to_equivalence, " for EQUIVALENT"))
    seeds, towards = min(way for way in ways if way[0])
    told = line(made)
    lead, *below = told.splitlines()
    counts = lead.removeprefix(f"**{ASKED}** ").removesuffix(".").split(", ")
    where = {"REPRODUCED": "movie", "NOT REPRODUCED": "cola", "EQUIVALENT": "sst2", "open": "bbc"}
    assert {*counts} == {f"{outcome} in 1 of 4 ({task})" for outcome, task in where.items()}
    outcomes = [count.partition(" in ")[0] for count in counts]
    assert [each.removeprefix("  - ").partition(":")[0] for each in below] == outcomes
    (row,) = (verdict for verdict in made.verdicts if verdict.where == "bbc")
    pair = f"  - open: bbc, scalora against lora: score {row.found} points, would take"
    assert seeds > PLAN[-1]
    assert f"{pair} {seeds} seeds (of {PLAN[-1]} at most){towards}" in below
    saved(tmp_path, NOISY[:5], task="bbc")
    told_now = line(study(tmp_path))
    assert "points, would take more seeds than can be counted on" in told_now
    for at in ("; movie, ", "; cola, ", "; sst2, "):
        assert told.count(at) == 1


def test_how_much_is_decided_counts_claims_and_comparisons(tmp_path: Path) -> None:
    saved(tmp_path, SURE[:5])
    saved(tmp_path, NOISY[:5], task="bbc")
    other = claim(id="other", direction="not inferior", tolerance=50.0)
    told = line(study(tmp_path, claim(question=ASKED, margin=1.0), other), "How much is decided.")
    assert "1 of the 2 claims that these runs can judge, wherever they are judged" in told
    assert "3 of the 4 comparisons that they are judged by." in told


def test_a_gain_that_later_seeds_contradict_says_so(tmp_path: Path) -> None:
    """What a stage has shown stands: three seeds two points up, five six points down."""
    gains = [2.0, 2.02, 1.98, -6.0, -6.1, -5.9, -6.05, -5.95]
    text = markdown.section(in_brief.section(study(saved(tmp_path / "late", gains))))
    assert "Better than `lora`: `scalora` (by early seeds: the mean of all says the contrary)" in text
    text = markdown.section(in_brief.section(study(saved(tmp_path / "sure", SURE))))
    assert "Better than `lora`: `scalora` on movie" in text


def test_without_stages_no_question_is_answered(tmp_path: Path) -> None:
    text = markdown.section(in_brief.section(study(saved(tmp_path, SURE[:5], stages=()))))
    assert ASKED not in text
    assert "How much is decided" not in text


def test_a_question_of_tuned_methods_is_answered_by_claims_of_such_alone() -> None:
    said = [one for one in found_claims() if re.search("tuned|best", one.question or "")]
    assert said
    assert {one.only.tuned for one in said} == {"both"}


def test_what_has_too_few_seeds_is_not_said_to_take_too_many_and_what_is_alike_is_said_once(
    tmp_path: Path,
) -> None:
    twin = claim(id="twin", question=ASKED, margin=1.0)
    made = study(saved(tmp_path, OPEN[:2]), claim(question=ASKED, margin=1.0), twin)
    assert line(made).endswith("** open.\n  - movie, scalora against lora: 2 seeds: judged after 3")


def test_a_pair_that_several_claims_are_open_for_is_named_once(tmp_path: Path) -> None:
    near = claim(id="near", question=ASKED, direction="not inferior", tolerance=0.5)
    made = study(saved(tmp_path, OPEN), claim(question=ASKED, margin=1.0), near)
    fewest, _ = sorted({one.to_decide for one in power(made) if one.to_decide})
    found = made.verdicts[0].found
    told = f"** open.\n  - movie, scalora against lora: score {found} points, would take {fewest} seeds"
    assert line(made).endswith(told)


def test_seeds_that_are_not_run_are_said(tmp_path: Path) -> None:
    made = study(saved(tmp_path, OPEN, stages=(3, 5)), claim(question=ASKED))
    (needed,) = power(made)
    assert needed.to_decide > 5
    assert line(made).endswith(f"would take {needed.to_decide} seeds (of 5 at most)")


def test_every_open_pair_stands_on_a_line_and_of_many_how_many_more(tmp_path: Path) -> None:
    for task in ("cola", "sst2", "movie", "amazon", "bbc"):
        saved(tmp_path, OPEN, task=task)
    lead, *below = line(study(tmp_path)).splitlines()
    assert lead.endswith("** open.")
    assert all(", scalora against lora: score " in each for each in below[:3])
    assert below[3:] == ["  - 2 more pairs"]


def test_brackets_under_a_question_have_a_confidence_of_their_own(tmp_path: Path) -> None:
    saved(tmp_path / "staged", SURE[:5])
    saved(tmp_path / "fixed", SURE[:5], stages=())
    texts = {}
    for name in ("staged", "fixed"):
        (found,) = (tmp_path / name).glob("**/runs")
        texts[name] = markdown.section(in_brief.section(study(found.parent)))
    assert (
        "under a question with 90% confidence at all stages of seeds at once, elsewhere with 95%"
        in (texts["staged"])
    )
    assert "with 95% confidence" in texts["fixed"]
    assert "90%" not in texts["fixed"]
