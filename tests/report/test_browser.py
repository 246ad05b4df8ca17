"""The report in a real browser: drawn, sortable, quiet, readable on a phone, in the dark, on paper, by keyboard."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from scalesearch.results.records import Failure
from tests.planted import PlantedSurface, planted_candidates, planted_records
from tests.report.pages import FINISHED, level_records, report
from tests.report.test_html import HOSTILE
from tests.report.test_model_page import write_page

pytestmark = pytest.mark.browser

FIGURES = 11
# Smallest contrast of text: WCAG 2.2, success criterion 1.4.3.
CONTRAST = 4.5
# Width of A4 less the page's margins of 14 mm, in CSS pixels.
PAPER = (210 - 28) / 25.4 * 96

# Every text of the page with its colour and that of what lies behind it, as rgb(…).
TEXTS = """
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (!colour.endsWith(', 0)')) return colour;
  }
};
const words = [...document.querySelectorAll('main :is(p, li, a, h1, h2, th, td, figcaption, caption, button)')];
const labels = [...document.querySelectorAll('.plot svg text')];
return [...words, ...labels].filter((one) => one.textContent.trim()).map((one) => {
  const style = getComputedStyle(one);
  return [one.textContent, labels.includes(one) ? style.fill : style.color, behind(one.closest('.plot') ?? one)];
});
"""
# The labels of figures that reach beyond their card.
CUT = """
return [...document.querySelectorAll('.plot text')].filter((text) => {
  const label = text.getBoundingClientRect(), card = text.closest('.figure').getBoundingClientRect();
  return label.width && (label.left < card.left || label.right > card.right || label.bottom > card.bottom);
}).map((text) => text.textContent);
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        missing = "Chromium and its driver must be installed (Debian: apt-get install chromium chromium-driver)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    options = ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = Chrome(options=options, service=Service(driver))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bad = planted_candidates()[3]
    records = planted_records(PlantedSurface(), fail=lambda c: Failure("error", HOSTILE) if c == bad else None)
    path = tmp_path_factory.mktemp("report") / "report.html"
    report(path, HOSTILE, records, where=HOSTILE)
    return path


def opened(browser: Chrome, path: Path, width: int = 1200, dark: bool = False, phone: bool = False) -> None:
    """Load the page in a window of `width` pixels; its figures are drawn when this returns."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": phone}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": phone})
    emulate(browser, dark)
    for log in ("browser", "performance"):
        browser.get_log(log)  # reading a log empties it
    browser.get(path.as_uri())


def emulate(browser: Chrome, dark: bool) -> None:
    features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def luminance(colour: str) -> float:
    parts = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def unreadable(browser: Chrome, least: int = 300) -> list[Any]:
    """The texts of too little contrast, of more than `least`."""
    texts = browser.execute_script(TEXTS)
    assert len(texts) > least
    pairs = [(text, sorted((luminance(ink), luminance(behind)))) for text, ink, behind in texts]
    return [(text, low, high) for text, (low, high) in pairs if (high + 0.05) / (low + 0.05) < CONTRAST]


def column(table: WebElement, place: int) -> list[str]:
    return [
        row.find_elements(By.CSS_SELECTOR, "th, td")[place].text
        for row in table.find_elements(By.CSS_SELECTOR, "tbody tr")
    ]


def test_every_figure_is_drawn_and_nothing_is_asked_of_anyone(browser: Chrome, path: Path):
    opened(browser, path)
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('.plot')].map((plot) => [plot.id, plot._fullLayout.width,"
        " plot.clientWidth, plot.querySelectorAll('.main-svg :is(.trace, .contour) path').length])"
    )
    assert len(drawn) == FIGURES
    for name, width, room, paths in drawn:
        assert width == room > 200, name
        assert paths > 0, name
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert path.as_uri() in asked
    assert not [url for url in asked - {path.as_uri()} if not url.startswith(("data:", "blob:"))]
    assert browser.get_log("browser") == []
    assert browser.title == f"{HOSTILE}: scalesearch"


def test_a_request_or_an_error_would_be_noticed(browser: Chrome, tmp_path: Path):
    page = tmp_path / "page.html"
    page.write_text("<script>throw new Error('planted')</script><img src='missing.png'>", encoding="utf-8")
    opened(browser, page)
    messages = " ".join(entry["message"] for entry in browser.get_log("browser"))
    assert "planted" in messages
    assert any("missing.png" in entry["message"] for entry in browser.get_log("performance"))


def test_a_click_sorts_numbers_by_size_and_words_by_letter_with_empty_cells_last(browser: Chrome, path: Path):
    opened(browser, path)
    table = browser.find_element(By.XPATH, "//table[contains(caption, 'Candidates')]")
    place = [button.text for button in table.find_elements(By.CSS_SELECTOR, "thead button")].index("β")
    before = column(table, place)
    heading = table.find_elements(By.CSS_SELECTOR, "thead th")[place]
    button = heading.find_element(By.TAG_NAME, "button")
    assert (button.text, heading.get_attribute("aria-sort")) == ("β", None)
    button.click()
    assert column(table, place) == sorted(before, key=float) != before
    assert heading.get_attribute("aria-sort") == "ascending"
    button.click()
    assert column(table, place) == sorted(before, key=float, reverse=True)
    assert heading.get_attribute("aria-sort") == "descending"
    other = table.find_element(By.CSS_SELECTOR, "thead th")
    other.find_element(By.TAG_NAME, "button").click()
    assert (other.get_attribute("aria-sort"), heading.get_attribute("aria-sort")) == ("ascending", None)
    assert column(table, 0) == [str(rank) for rank in range(1, 15)]
    assert column(table, place) == before
    for name, read in (
        ("best?", lambda cell: int(cell.strip("(%)"))),
        ("params", lambda cell: int(cell.replace(",", ""))),
    ):
        place = [button.text for button in table.find_elements(By.CSS_SELECTOR, "thead button")].index(name)
        cell = table.find_elements(By.CSS_SELECTOR, f"tbody td:nth-child({place + 1})")[0]
        browser.execute_script(
            "arguments[0].textContent = arguments[1]", cell, {"best?": "(9%)"}.get(name, "1,562,976")
        )
        table.find_elements(By.CSS_SELECTOR, "thead button")[place].click()
        cells = [read(cell) for cell in column(table, place)]
        assert cells == sorted(cells)
    splits = browser.find_element(By.XPATH, "//table[contains(caption, 'Splits at φ = 2')]")
    buttons = splits.find_elements(By.CSS_SELECTOR, "thead button")
    better = [button.text for button in buttons].index("rule better by")
    values = sorted(float(cell) for cell in column(splits, better) if cell)
    assert values[0] < 0 < values[-1]
    for ordered in (values, values[::-1]):
        buttons[better].click()
        cells = column(splits, better)
        assert [float(cell) for cell in cells[:-1]] == ordered
        assert cells[-1] == ""  # the rule itself
    buttons[0].click()
    assert column(splits, 0) == [f"split {place}" for place in range(6)]


def test_the_keyboard_reaches_every_link_and_heading_and_sorts(browser: Chrome, path: Path):
    opened(browser, path)
    wanted = browser.execute_script(
        "window.seen = []; const wanted = [...document.querySelectorAll('nav a, th button')];"
        "addEventListener('focusin', ({ target }) => seen.push(wanted.indexOf(target))); return wanted.length"
    )
    assert wanted > 40
    ActionChains(browser).send_keys(Keys.TAB * wanted).perform()
    assert browser.execute_script("return seen") == list(range(wanted))
    assert browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    heading, table, place = browser.execute_script(
        "const at = document.activeElement.parentElement; return [at, at.closest('table'), at.cellIndex]"
    )
    for key, state in ((Keys.ENTER, "ascending"), (Keys.SPACE, "descending")):
        ActionChains(browser).send_keys(key).perform()
        assert heading.get_attribute("aria-sort") == state
        cells = [float(cell.replace(",", "")) for cell in column(table, place)]
        assert cells == sorted(cells, reverse=state == "descending")


def test_a_screen_reader_finds_figures_described_and_tables_named(browser: Chrome, path: Path):
    opened(browser, path)
    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named: dict[str, list[str]] = {}
    for node in nodes:
        if not node["ignored"]:
            named.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    assert len(named["image"]) == FIGURES
    assert all(len(text) > 40 for text in named["image"])
    assert len(set(named["table"])) == len(named["table"]) == 8
    assert "" not in named["table"] + named["columnheader"] + named["rowheader"] + named["button"] + named["link"]
    assert not [text for text in named["button"] if "↕" in text]


def test_long_labels_fit_on_a_phone(browser: Chrome, tmp_path: Path):
    path = tmp_path / "report.html"
    report(path, "levels", level_records(), metric="val_accuracy")
    opened(browser, path, width=360, phone=True)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 360
    assert browser.execute_script(CUT) == []


def test_a_phone_scrolls_down_only_and_cuts_no_label(browser: Chrome, path: Path):
    opened(browser, path, width=390, phone=True)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    assert browser.execute_script(CUT) == []
    browser.execute_script("document.getElementById('figure-cost').scrollIntoView({block: 'center'})")
    before = browser.execute_script("return scrollY")
    swipe = [("touchStart", [450]), *(("touchMove", [450 - step]) for step in range(10, 310, 20)), ("touchEnd", [])]
    for kind, at in swipe:
        touched = [{"x": 195, "y": y} for y in at]
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touched})
    WebDriverWait(browser, 10).until(lambda b: b.execute_script("return scrollY") > before + 100)


def test_all_text_is_readable_and_figures_follow_the_scheme(browser: Chrome, path: Path):
    opened(browser, path, dark=True)
    for dark in (True, False, True):
        emulate(browser, dark)
        WebDriverWait(browser, 10).until(
            lambda b, dark=dark: all((luminance(colour) < 0.1) is dark for colour in papers(b))
        )
        page = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (luminance(page) < 0.1) is dark
        assert unreadable(browser) == []


def papers(browser: Chrome) -> list[str]:
    return browser.execute_script(
        "return [...document.querySelectorAll('.plot .main-svg:first-of-type')].map((svg) => svg.style.background)"
    )


def test_paper_is_light_and_cuts_nothing_and_the_screen_is_as_before(browser: Chrome, path: Path):
    opened(browser, path, dark=True)
    browser.execute_script(
        """
        window.seen = [];
        const look = () => seen.push([...document.querySelectorAll('.plot')].map((plot) => {
          const svg = plot.querySelector('.main-svg');
          return [svg.style.background, svg.getBoundingClientRect().width, plot.clientWidth];
        }));
        look();
        for (const event of ['beforeprint', 'afterprint']) addEventListener(event, look);
        """
    )
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"paperWidth": 8.27, "paperHeight": 11.69})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
    screen, paper, again = browser.execute_script("return seen")
    assert len(paper) == FIGURES
    for colour, width, room in paper:
        assert luminance(colour) > 0.9
        assert 200 < width <= room <= PAPER
    assert again == screen
    assert all(luminance(colour) < 0.1 for colour, _, _ in screen)


def test_a_page_without_figures_has_no_error_either(browser: Chrome, tmp_path: Path):
    path = tmp_path / "report.html"
    report(path, "none", (), validations=(), states={**FINISHED, "complete": 0, "waiting": 15})
    opened(browser, path, width=390, phone=True)
    assert "No candidate has finished" in browser.find_element(By.TAG_NAME, "main").text
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    assert browser.get_log("browser") == []


def test_the_report_of_a_model_is_drawn_and_fits_a_phone(browser: Chrome, tmp_path: Path):
    path = write_page(tmp_path)
    opened(browser, path, width=390, phone=True, dark=True)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    assert browser.execute_script(CUT) == []
    assert browser.execute_script("return [...document.querySelectorAll('.main-svg .trace')].length") > 2
    assert browser.execute_script("return [...document.images].map((image) => image.naturalWidth)") == [6, 6]
    assert unreadable(browser, least=100) == []
    assert browser.get_log("browser") == []
