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
from tests.reports.test_stages import NOISY, SURE, saved

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
    seeds = min(found for found in (needed.to_decide, needed.to_equivalence) if found)
    told = line(made)
    lead, *below = told.splitlines()
    counts = lead.removeprefix(f"**{ASKED}** ").removesuffix(".").split(", ")
    outcomes = [count.removesuffix(" in 1 of 4") for count in counts]
    assert {*outcomes} == {"REPRODUCED", "NOT REPRODUCED", "EQUIVALENT", "open"}
    assert [each.removeprefix("  - ").partition(":")[0] for each in below] == outcomes
    assert f"  - open: bbc, scalora against lora: would take {seeds} seeds by score" in below
    saved(tmp_path, NOISY[:5], task="bbc")
    beyond = "open: bbc, scalora against lora: would take more seeds than can be counted on by score"
    assert beyond in line(study(tmp_path))
    for at in ("; movie, ", "; cola, ", "; sst2, "):
        assert told.count(at) == 1


def test_how_much_is_decided_counts_claims_and_comparisons(tmp_path: Path) -> None:
    saved(tmp_path, SURE[:5])
    saved(tmp_path, NOISY[:5], task="bbc")
    other = claim(id="other", direction="not inferior", tolerance=50.0)
    told = line(study(tmp_path, claim(question=ASKED, margin=1.0), other), "How much is decided.")
    assert "Of 2 claims that these runs can judge, 1 are decided wherever they are judged" in told
    assert "of the 4 comparisons that they are judged by, 3." in told


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
    seeds = f"{fewest} seeds by score"
    assert line(made).endswith(f"** open.\n  - movie, scalora against lora: would take {seeds}")
