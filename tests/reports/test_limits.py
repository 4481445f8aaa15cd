"""A report of very many runs lists and draws no more than can be read, and says what it leaves out."""

from __future__ import annotations

from rankbench.reports.claims.judge import judge
from rankbench.reports.claims.schema import Outcome, found_claims
from rankbench.reports.frames import load
from rankbench.reports.render import limits
from rankbench.reports.render.blocks import Folded, PageOnly, Picture, Section, Table, pictures
from rankbench.reports.render.figure import Axis, Figure, Line, Panel, Points, Row
from rankbench.reports.render.limits import limited
from rankbench.reports.render.looks import Look
from rankbench.reports.render.markdown import document
from rankbench.reports.render.svg import svg
from tests.made_records import run_record, save


def table(rows: int) -> Table:
    return Table(["method", "score"], [[f"m{i}", "1"] for i in range(rows)])


def picture(name: str, *panels: Panel) -> Picture:
    return Picture(name, "Losses", "Mean.", Figure([*panels], (4.0, 20.0)))


def lines(names: int) -> Panel:
    return Panel([Line(Look(f"m{i}"), [0, 1], [0, 1]) for i in range(names)])


def test_what_can_be_read_stays_as_it_is():
    panels = [lines(limits.NAMES)] * limits.PANELS
    blocks = [table(limits.ROWS), Folded("more", [table(3)]), picture("a", *panels), "words"]
    assert [*limited(Section("All", blocks)).blocks] == blocks


def test_of_long_tables_the_first_rows_are_listed_and_the_page_has_more():
    made = limited(Section("All", [Folded("f", [table(5000)]), PageOnly([table(5000)])]))
    text = document("made", {"all": made})
    assert "| m199 " in text
    assert "| m200 " not in text
    assert "The first 200 of 5,000 rows." in text
    _, page = made.blocks
    assert len(page.blocks[0].rows) == limits.PAGE_ROWS


def test_of_many_figures_the_first_are_drawn_and_the_others_named():
    names = [f"{kind}--{i}" for kind in ("loss", "rank", "claim") for i in range(100)]
    made = limited(Section("All", [Section("t", [picture(name, lines(1))]) for name in names]))
    assert [one.name for one in pictures([made])] == [*names[:12], *names[100:112], *names[200:]]
    assert document("made", {"all": made}).count("Losses: not drawn") == 88 + 88


def test_of_many_methods_the_first_are_drawn_in_every_panel():
    points = Panel([Points(Look(f"m{i}"), [0], [0]) for i in reversed(range(1000))])
    [drawn] = limited(Section("All", [picture("p", lines(1000), points)])).blocks
    assert "Drawn are the first 16 of 1000 methods." in drawn.caption
    kept = {f"m{i}" for i in range(16)}
    assert [{mark.look.name for mark in panel.marks} for panel in drawn.figure.panels] == [kept, kept]


def test_of_many_rows_the_first_are_drawn_on_a_lower_figure():
    names = [f"r{i}" for i in range(480)]
    panel = Panel([Row(Look("x"), name, 1.0) for name in names], y=Axis(categories=names))
    [drawn] = limited(Section("All", [picture("p", panel)])).blocks
    assert "Drawn are the first 48 of 480 rows." in drawn.caption
    [kept] = drawn.figure.panels
    assert [mark.name for mark in kept.marks] == [*kept.y.categories] == names[:48]
    assert drawn.figure.size == (4.0, 2.0)
    assert b"r47" in svg(drawn.figure)


def test_a_claim_is_not_judged_where_dozens_of_entries_fit_it(tmp_path):
    claim = next(one for one in found_claims() if one.against and one.measurement == "final_loss")
    sides = [side.adapters[0] for side in (claim.method, claim.against)]

    def verdicts(entries: int) -> list[tuple[Outcome, str]]:
        folder = tmp_path / str(entries)
        for adapter in sides:
            for i in range(entries):
                config = {"adapter": {"name": adapter, **claim.method.settings}}
                save(
                    folder, *(run_record("movie", f"{adapter}-{i}", seed, config=config) for seed in range(2))
                )
        return [(one.outcome, one.reason) for one in judge(load(folder), [claim])]

    few, many = verdicts(2), verdicts(8)
    assert len(few) == 4
    told = "8 entries of the one and 8 of the other: it is not said which are meant"
    assert many == [(Outcome.PROTOCOL_DIFFERS, told)]
