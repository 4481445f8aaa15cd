"""The file of claims: those that are committed are whole, and a mistake in one is one line."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
import yaml

from rankbench import adapters
from rankbench.reports.claims.published import CLAIMS, PublishedError, load_papers
from rankbench.reports.claims.schema import OURS, load_claims
from tests.reports.test_claims import LIKE

WORDS = {
    "scalora-rank-grows", "scalora-loss-below-lora", "scalora-not-below-lora",
    "column-not-below-scalar", "interval-within-noise", "scalora-not-below-wide-lora",
    "columns-nonnegative", "gradient-rank", "interval-time", "moment-rule-matters",
    "lora-gradient-falls", "rslora-gradient-level", "lora-loss-flat", "rslora-loss-falls",
    "lora2-parameter-share", "lora2-scores-saved", "lora2-pruned-holds", "lora2-orthogonal",
    "scalora-above-hira", "scalora-above-full", "scalora-steps-below-lora", "every-step-slow",
    "tuned-lora-behind-large-rslora", "lora2-above-lora-of-its-size", "lora2-holds-beside-adalora",
    "lora2-three-regularisers", "lora2-step-beside-adalora", "lora2-first-feed-forward",
    "variants-peak-near-lora", "lora-not-below-variants",
}  # fmt: skip


def test_the_committed_claims_are_of_the_papers_and_none_is_lost():
    claims = load_claims()
    assert {made.id for made in claims} >= WORDS
    papers = {paper.paper for paper in load_papers() if paper.role == "claims"}
    assert {made.paper for made in claims} == papers | {OURS}


def test_the_committed_claims_name_adapters_and_settings_that_there_are():
    methods = [method for claim in load_claims() for method in (claim.method, claim.against) if method]
    for method in methods:
        kinds = [adapters.kind(name) for name in method.adapters]
        known = {one.name: one.default for kind in kinds for one in fields(kind) if one.init}
        assert set(known) >= {*method.settings, *method.unlike}, method.name
        assert method.defaults.items() <= known.items(), method.name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"measurement": "scores"}, ["unknown measurement 'scores'", "did you mean score"]),
        ({"value": 1}, ["one of the two"]),
        ({"against": None}, ["one of the two"]),
        ({"against": None, "value": 1, "test": "seeds"}, ["'superior' needs `against`"]),
        ({"direction": "at most"}, ["needs `value`"]),
        ({"test": "seeds"}, ["tested by 'paired seeds and items'"]),
        ({"tolerance": -1}, ["tolerance"]),
        ({"direction": "better"}, ["direction"]),
        ({"why": None}, ["claims.made.why"]),
        ({"ratio": {"width": 2}}, ["ratio.width"]),
        ({"hand": None}, ["`hand`", "rankbench as paper"]),
        ({"paper": OURS}, ["`hand`"]),
        ({"margin": 0}, ["margin", "greater than 0"]),
        ({"margim": 1}, ["margim: unknown key; did you mean 'margin'?"]),
        ({"colour": 1}, ["colour: unknown key; leave it out"]),
        ({"margin": 1, "direction": "equivalent"}, ["`margin`", "tolerance"]),
        ({"margin": 2, "measurement": "item_loss"}, ["share below 1", "2"]),
        (
            {"tolerance": 1, "measurement": "item_loss"},
            ["share for its tolerance", "not 1"],
        ),  # a point of its twin's
        ({"measurement": "item_loss", "test": "paired seeds"}, ["tested by 'paired seeds and items'"]),
    ],
)
def test_a_bad_claim_is_named_in_one_line(tmp_path, changes, words):
    entry = {key: value for key, value in (LIKE | changes).items() if value is not None}
    (tmp_path / CLAIMS).write_text(yaml.safe_dump({"claims": [entry]}))
    with pytest.raises(PublishedError) as error:
        load_claims(tmp_path)
    for word in [CLAIMS, "claims.made", *words]:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("- made", "the file"),
        ("", "the file"),
        ("claims:", "claims"),
        ("claims: [made]", "claims.0"),
        (f"{{methods: , claims: [{LIKE}]}}", "methods"),
        (f"{{methods: {{lora: full}}, claims: [{LIKE}]}}", "methods"),
        (f"{{methods: [3], claims: [{LIKE}]}}", "methods.0"),
        (f"{{methods: [{{nme: mine, adapter: lora}}], claims: [{LIKE}]}}", "methods.0.name: Field required"),
        (f"{{methods: [{{name: [a], adapter: lora}}], claims: [{LIKE}]}}", "methods.0.name"),
        (
            f"{{methods: [{{name: a, adapter: b}}, {{name: a, adapter: c}}], claims: [{LIKE}]}}",
            "two methods of",
        ),
        (f"claims: [{LIKE | {'method': ['lora']}}]", "claims.made.method"),
    ],
)
def test_a_file_of_another_shape_is_answered_in_one_line(tmp_path, content, words):
    (tmp_path / CLAIMS).write_text(content)
    with pytest.raises(PublishedError, match=f"{CLAIMS}: .*{re.escape(words)}") as error:
        load_claims(tmp_path)
    assert "\n" not in str(error.value)


def test_a_claim_may_say_its_method_in_its_place(tmp_path):
    mine = {"name": "mine", "adapter": "lora", "settings": {"rank": 4}}
    (tmp_path / CLAIMS).write_text(yaml.safe_dump({"claims": [LIKE | {"method": mine, "against": mine}]}))
    (made,) = load_claims(tmp_path)
    assert made.method.model_dump() == made.against.model_dump() == mine | {"unlike": {}, "defaults": {}}


def test_a_claim_about_a_score_has_a_margin_and_a_twin_by_the_loss():
    claims = {one.id: one for one in load_claims()}
    by_score = [one for one in claims.values() if one.measurement == "score"]
    assert all(one.margin == 1 for one in by_score if one.direction == "superior" and not one.tolerance)
    # A twin of `superior` with a margin says what one of `not inferior` would; that of all variants is split.
    said_by = {
        "scalora-not-below-lora": "scalora-above-lora-by-loss",
        "column-not-below-scalar": "column-above-scalar-by-loss",
        "variants-peak-near-lora": "dora-near-lora",
    }
    for one in by_score:
        twin = claims[said_by.get(one.id, f"{one.id}-by-loss")]
        assert (twin.measurement, twin.paper, twin.hand) == ("item_loss", OURS, None)
        assert (twin.against, twin.only, twin.test) == (one.against, one.only, one.test)
        assert twin.margin == (0.02 if twin.direction == "superior" and not twin.tolerance else None)
        if one.id not in said_by:
            assert (twin.method, twin.ratio, twin.direction) == (one.method, one.ratio, one.direction)
            assert twin.tolerance == (0.02 if one.tolerance else 0)


def test_ids_are_unique(tmp_path):
    (tmp_path / CLAIMS).write_text(yaml.safe_dump({"claims": [LIKE, LIKE]}))
    with pytest.raises(PublishedError, match="two claims of the id made"):
        load_claims(tmp_path)
