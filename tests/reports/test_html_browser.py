"""The page in headless Chromium: sorting, filtering, figures, widths, and nothing asked of a network."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from rankbench import reports
from rankbench.bench.records import Metrics
from tests.made_records import run_record, save

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium with chromedriver on this machine"),
]

OPTIONS = ["headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1280,1000"]
NUMBER = re.compile(
    r"(?:[<>≤≥÷]\s|\[)?([+\-−]?(?:inf\b|(?:\d[\d,]*\.?\d*|\.\d+)(?:e[+-]?\d+)?))", re.IGNORECASE
)
WAIT = 60


@pytest.fixture(scope="module")
def address(laptop: Path) -> str:
    return (laptop / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for option in OPTIONS:
        options.add_argument(f"--{option}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: webdriver.Chrome, address: str) -> Iterator[webdriver.Chrome]:
    """The page, newly opened at 1280 pixels; afterwards nothing was complained of and nothing fetched."""
    resize(browser, 1280)
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(address)
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith(("file:", "data:", "blob:"))} == set()
    assert address in asked


def resize(browser: webdriver.Chrome, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def table(page: webdriver.Chrome, section: str, column: str) -> WebElement:
    """The first table of a section that has a column of the name."""
    found = page.find_elements(By.CSS_SELECTOR, f"#{section} table")
    return next(element for element in found if column in heads(element))


def heads(element: WebElement) -> list[str]:
    return [head.text.replace("\n", " ") for head in element.find_elements(By.CSS_SELECTOR, "thead th")]


def cells(page: webdriver.Chrome, element: WebElement) -> list[list[str]]:
    """Text of the rows that are shown."""
    script = (
        "return [...arguments[0].tBodies[0].rows].filter(row => row.checkVisibility())"
        ".map(row => [...row.cells].map(cell => cell.textContent.trim()))"
    )
    rows: list[list[str]] = page.execute_script(script, element)
    return rows


def controls(element: WebElement) -> dict[str, WebElement]:
    """The filters above a table, by their labels."""
    bar = element.find_element(By.XPATH, "../preceding-sibling::*[1][@class='controls']")
    found = bar.find_elements(By.CSS_SELECTOR, "label")
    return {label.text.split("\n")[0].strip(): label.find_element(By.CSS_SELECTOR, "*") for label in found}


def draw(page: webdriver.Chrome, section: str = "main") -> int:
    """Scroll to every figure that is shown there, wait until it is drawn, and return how many there are."""
    figures = page.find_elements(By.CSS_SELECTOR, f"{section} .figure")
    shown = [figure for figure in figures if figure.is_displayed()]
    for figure in shown:
        page.execute_script("arguments[0].scrollIntoView({behavior: 'instant'})", figure)
        WebDriverWait(page, WAIT).until(lambda _, f=figure: f.find_elements(By.CSS_SELECTOR, "svg.main-svg"))
    return len(shown)


def key(text: str) -> float:
    match = NUMBER.match(text)
    assert match, text
    return float(match[1].replace(",", "").replace("−", "-"))


def natural(text: str) -> list[tuple[int, int, str]]:
    """Signs before numbers before letters, and numbers by their size."""
    return [
        (1, int(part), "") if part.isdecimal() else (2 * part.isalpha(), 0, part)
        for part in re.findall(r"[0-9]+|[^0-9]", text.lower())
    ]


def is_sorted(values: list[str], *, descending: bool) -> bool:
    """Numbers by size, words with their numbers by size, and what is missing last."""
    there = [value for value in values if value not in ("–", "")]
    if values[: len(there)] != there:
        return False
    ordered = there[::-1] if descending else there
    numeric = all(NUMBER.match(value) for value in there)
    keys: list[Any] = [key(value) if numeric else natural(value) for value in ordered]
    return all(not (after < before) for before, after in itertools.pairwise(keys))


@pytest.mark.parametrize("section", ["leaderboard", "scores", "overhead"])
def test_every_column_sorts_up_and_down(page: webdriver.Chrome, section: str) -> None:
    for element in page.find_elements(By.CSS_SELECTOR, f"#{section} table"):
        before = sorted(map(tuple, cells(page, element)))
        buttons = element.find_elements(By.CSS_SELECTOR, "thead button")
        assert len(buttons) == len(heads(element))
        for column, button in enumerate(buttons):
            for descending in (False, True):
                page.execute_script("arguments[0].click()", button)
                rows = cells(page, element)
                values = [row[column] for row in rows]
                assert is_sorted(values, descending=descending), (button.text, values)
            assert sorted(map(tuple, rows)) == before, "no row lost, none changed"


def test_ratios_and_small_p_values_sort_as_numbers(browser: webdriver.Chrome, tmp_path: Path) -> None:
    """What stands before them is tied to them by a space that does not break: 0.5 came before 0.45."""
    for task, ratio in (("a", 0.5), ("b", 0.45), ("c", 1.2)):
        for seed, (label, error) in itertools.product(range(3), (("scalora", 1.0), ("scalora-nnls", ratio))):
            best = {"mse": error * (1 + seed / 1000)}
            metrics = Metrics(main="mse", best=best, last=best, best_step=1, last_step=1)
            save(tmp_path, run_record(task, label, seed, metrics=metrics))
    browser.get((reports.write(tmp_path).parent / "report.html").as_uri())
    gain = "gain over scalora [interval]"
    extensions = table(browser, "extensions", gain)
    column = heads(extensions).index(gain)
    button = extensions.find_elements(By.CSS_SELECTOR, "thead button")[column]
    browser.execute_script("arguments[0].click()", button)
    assert [key(row[column]) for row in cells(browser, extensions)] == [0.45, 0.5, 1.2]


def test_the_leaderboard_really_reorders(page: webdriver.Chrome) -> None:
    board = table(page, "leaderboard", "mean")
    column = heads(board).index("mean")
    before = [row[column] for row in cells(page, board)]
    button = board.find_elements(By.CSS_SELECTOR, "thead button")[column]
    button.click()
    after = [float(row[column]) for row in cells(page, board)]
    assert after == sorted(map(float, before))
    assert [str(value) for value in after] != before
    assert board.find_elements(By.CSS_SELECTOR, "th")[column].get_attribute("aria-sort") == "ascending"


def test_the_leaderboard_filters_by_task_and_by_adapter(page: webdriver.Chrome) -> None:
    board = table(page, "leaderboard", "mean")
    task, adapter = heads(board).index("task"), heads(board).index("adapter")
    every, given = cells(page, board), controls(board)
    Select(given["task"]).select_by_visible_text("movie")
    movie = [row for row in every if row[task] == "movie"]
    assert cells(page, board) == movie
    assert 0 < len(movie) < len(every)
    given["adapter"].send_keys("SCALORA")
    both = [row for row in movie if "scalora" in row[adapter]]
    assert cells(page, board) == both
    assert 0 < len(both) < len(movie)
    bar = given["adapter"].find_element(By.XPATH, "../..")
    assert f"{len(both)} of {len(every)} rows" in bar.text
    given["adapter"].send_keys(" nothing of this name")
    assert cells(page, board) == []
    given["adapter"].clear()
    Select(given["task"]).select_by_visible_text("all")
    assert cells(page, board) == every


def test_verdicts_filter_by_outcome_and_open_their_evidence(page: webdriver.Chrome) -> None:
    summary = table(page, "verdicts", "over the settings")
    column = heads(summary).index("over the settings")
    every = cells(page, summary)
    choice = Select(controls(summary)["over the settings"])
    offered = {option.text for option in choice.options} - {"all"}
    assert offered == {row[column] for row in every}
    for outcome in sorted(offered):
        choice.select_by_visible_text(outcome)
        assert cells(page, summary) == [row for row in every if row[column] == outcome]
        shown = next(row for row in summary.find_elements(By.CSS_SELECTOR, "tbody tr") if row.is_displayed())
        link = shown.find_element(By.CSS_SELECTOR, "a")
        heading = page.find_element(By.CSS_SELECTOR, link.get_dom_attribute("href") or "")
        assert heading.text == link.text
        evidence = heading.find_element(By.XPATH, "following-sibling::details[1]")
        (source,) = [
            p
            for p in evidence.find_elements(By.CSS_SELECTOR, "p")
            if "Why this bound" in (p.get_property("textContent") or "")
        ]
        assert not source.is_displayed()
        evidence.find_element(By.CSS_SELECTOR, "summary").click()
        assert source.is_displayed()


def test_another_cost_shows_other_figures(page: webdriver.Chrome) -> None:
    choice = Select(page.find_element(By.CSS_SELECTOR, "#accuracy-cost select"))
    assert len(choice.options) >= 3
    titles = []
    for option in [option.text for option in choice.options]:
        choice.select_by_visible_text(option)
        draw(page, "#accuracy-cost")
        drawn = page.find_elements(By.CSS_SELECTOR, "#accuracy-cost .grid:not([hidden]) .figure")
        assert all(figure.is_displayed() for figure in drawn)
        titles.append(drawn[0].find_element(By.CSS_SELECTOR, ".xtitle").text)
        assert titles[-1] == option
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("width", [1280, 390])
def test_all_figures_are_drawn_and_the_page_is_as_wide_as_the_window(
    page: webdriver.Chrome, width: int
) -> None:
    resize(page, width)
    assert draw(page) > 10
    assert page.find_elements(By.CSS_SELECTOR, ".figure .heatmaplayer image, .figure .heatmaplayer path")
    lines = page.find_elements(By.CSS_SELECTOR, "#convergence .figure .scatterlayer .js-line")
    assert len(lines) >= 7
    page.execute_script("document.querySelectorAll('details').forEach(fold => (fold.open = true))")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    containers = page.find_elements(By.CSS_SELECTOR, ".scroll")
    for box in containers:
        assert box.rect["x"] >= 0
        assert box.rect["x"] + box.rect["width"] <= width
    wide = "return arguments[0].scrollWidth > arguments[0].clientWidth"
    if width == 390:
        assert any(page.execute_script(wide, box) for box in containers), "wide tables scroll by themselves"
    else:
        assert not any(page.execute_script(wide, box) for box in containers), (
            "no table is wider than a screen"
        )
    sizes = (
        "return [...document.querySelectorAll('p, td')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(page.execute_script(sizes)) >= 12


def test_figures_follow_a_dark_scheme(page: webdriver.Chrome) -> None:
    ink = "return getComputedStyle(document.body).color"
    light = page.execute_script(ink)
    draw(page, "#convergence")
    wanted = {"name": "prefers-color-scheme", "value": "dark"}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [wanted]})
    try:
        dark = page.execute_script(ink)
        assert dark != light
        label = page.find_element(By.CSS_SELECTOR, "#convergence .figure .ytick text")
        WebDriverWait(page, WAIT).until(lambda _: dark.split("(")[1] in label_fill(page))
        assert label is not None
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def label_fill(page: webdriver.Chrome) -> str:
    label = page.find_element(By.CSS_SELECTOR, "#convergence .figure .ytick text")
    return label.value_of_css_property("fill")


def test_without_scripts_the_tables_are_there_to_read(page: webdriver.Chrome, address: str) -> None:
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.get(address)
        board = next(t for t in page.find_elements(By.TAG_NAME, "table") if "seeds" in t.text)
        assert board.is_displayed()
        assert "scalora" in board.text
        assert page.find_elements(By.CSS_SELECTOR, ".controls, th button") == []
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
