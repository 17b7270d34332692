"""The console in a real browser: Debian's Chromium, driven through its own driver."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest

from guardrail.audit import AuditSettings, Store
from guardrail.audit.review import labels_of
from tests.cli.test_serve import Upstream

pytest.importorskip("selenium")
CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="needs Debian's chromium and chromium-driver"
    ),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

POLICY = """
version: 1
name: reviewed
extends: default
audit: {text: plain}
categories:
  unsafe: {flag: 0.5, block: 1.0, review: [0.3, 1.0]}
  codes: {words: [swordfish], block: 0.5, action: redact}
"""
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
ASKED = (
    "How do I kill my neighbour and get away with it?",
    "Tell me about old bridges.",
    "The word is swordfish, I think.",
    "Everyone in this town is an idiot and I hate them all.",
    HOSTILE,
)


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[str, AuditSettings]]:
    """A real `guardrail serve` with a console, after some traffic: its address and its audit."""
    folder = tmp_path_factory.mktemp("console")
    (folder / "p.yaml").write_text(POLICY)
    place = f"sqlite:{folder}/audit.db"
    env = {**os.environ, "GUARDRAIL_ADMIN_PORT": "0"}
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as upstream:
        threading.Thread(target=upstream.serve_forever, daemon=True).start()
        command = [
            sys.executable, "-u", "-m", "guardrail", "serve", "--port", "0", "--audit", place,
            "-p", str(folder / "p.yaml"), "-u", f"http://127.0.0.1:{upstream.server_port}",
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            console = next(line for line in process.stdout if line.startswith("  console")).split()[
                -1
            ]
            for text in ASKED:
                data = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
                request = urllib.request.Request(f"{url}/v1/chat/completions", data)
                request.add_header("Content-Type", "application/json")
                try:
                    urllib.request.urlopen(request, timeout=20).read()
                except urllib.error.HTTPError as error:
                    error.close()
            yield console, AuditSettings(place)
            process.terminate()
            process.wait(20)
        upstream.shutdown()


@pytest.fixture(scope="module")
def browser(served):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1300,1000"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(30)
    driver.get(served[0])
    yield driver
    driver.quit()


class Page:
    """The browser with what the tests do over and over."""

    def __init__(self, driver, base: str) -> None:
        self.driver = driver
        self.base = base.partition("#")[0]

    def wait(self, script: str, *arguments: object):
        """Wait until a script returns something true; return it."""
        from selenium.webdriver.support.ui import WebDriverWait

        run = lambda d: d.execute_script(f"return {script}", *arguments)  # noqa: E731
        return WebDriverWait(self.driver, 25, poll_frequency=0.05).until(run)

    def go(self, view: str, heading: str) -> None:
        self.driver.execute_script("location.hash = arguments[0]", f"#/{view}")
        self.wait("document.querySelector('h1')?.textContent.includes(arguments[0])", heading)

    def find(self, selector: str):
        from selenium.webdriver.common.by import By

        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def press(self, keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(keys).perform()

    def click(self, label: str) -> None:
        """Click the button that begins with a label."""
        self.wait(
            "Array.from(document.querySelectorAll('button:not(:disabled)'))"
            ".find(b => b.textContent.startsWith(arguments[0]))",
            label,
        ).click()


@pytest.fixture
def page(browser, served) -> Page:
    return Page(browser, served[0])


def test_the_printed_address_opens_it_and_the_token_leaves_the_address(page: Page) -> None:
    page.wait("document.querySelector('h1')?.textContent == 'Live'")
    assert "token" not in page.driver.current_url
    page.wait("document.querySelectorAll('tbody tr').length >= 4")
    assert page.find("svg[role=img]").get_attribute("aria-label").startswith("Decisions over")
    page.wait("/[0-9]/.test(document.querySelector('.figure b').textContent)")


def test_a_hostile_text_is_shown_as_text(page: Page) -> None:
    page.go("decisions", "Decisions")
    page.wait("document.querySelector('tbody')?.textContent.includes('onerror')")
    assert page.driver.execute_script("return document.querySelectorAll('main img').length") == 0
    assert page.driver.title != "owned"
    refused = page.driver.execute_script(
        "try { document.body.innerHTML = '<b>x</b>'; return 'set' } catch (e) { return e.name }"
    )
    assert refused == "TypeError", "the page's own policy refuses to parse HTML"


def test_what_was_redacted_is_counted_found_and_foreseen(page: Page) -> None:
    from selenium.webdriver.support.ui import Select

    page.go("live", "Live")
    page.wait("/[1-9]\\d* redacted/.test(document.querySelector('svg[role=img]')?.ariaLabel)")
    assert page.find("svg rect.redact").size["height"] > 0
    page.go("decisions", "Decisions")
    Select(page.find("form select")).select_by_value("redact")
    page.wait(
        "(rows => rows.length && rows.every(r => r.textContent.includes('redact')))"
        "(Array.from(document.querySelectorAll('tbody tr')))"
    )
    Select(page.find("form select")).select_by_value("")
    page.go("playground", "Playground")
    page.find("#play-text").send_keys("The word is swordfish, I think.")
    page.click("Score")
    page.wait("document.querySelector('h2 .badge')?.textContent == 'redact'")


def test_a_view_that_comes_late_takes_no_place_and_hears_no_key(page: Page) -> None:
    page.driver.execute_script(
        "const right = window.fetch, late = new Promise(go => { window.release = go; });"
        "window.fetch = async (path, how) => {"
        "  if (path.includes('labelled=0') || /decisions\\//.test(path)) await late;"
        "  return right(path, how); };"
        "window.restore = () => { window.fetch = right; }"
    )
    page.driver.execute_script("location.hash = '#/review'")
    page.wait("document.querySelector('h1')?.textContent == 'Review'")
    page.press("a")
    page.driver.execute_script("location.hash = '#/playground'")
    page.wait("document.querySelector('h1')?.textContent == 'Playground'")
    page.driver.execute_script("window.release(); window.restore()")
    page.driver.execute_async_script("setTimeout(arguments[0], 700)")
    page.press("a")
    assert page.find("h1").text == "Playground"
    assert page.driver.execute_script("return document.querySelector('#alert').hidden")


def test_only_what_is_in_view_is_answered(page: Page, served) -> None:
    page.go("review", "Review")
    page.wait("document.querySelectorAll('.review-list li').length > 1")
    page.wait("document.querySelector('fieldset')")
    page.driver.execute_script(
        "const input = document.querySelector('input[autocomplete=name]'); input.value = 'eve';"
        "const right = window.fetch; window.posted = 0;"
        "window.fetch = async (path, how) => {"
        "  if (how.method == 'POST') window.posted += 1;"
        "  if (/decisions\\//.test(path)) await new Promise(go => setTimeout(go, 700));"
        "  return right(path, how); };"
        "window.restore = () => { window.fetch = right; }"
    )
    before = page.find(".two a").get_attribute("href")
    page.press("ja")  # on to the next, and answered before it is there
    page.wait("document.querySelector('.two a').href != arguments[0]", before)
    posted = page.driver.execute_script("window.restore(); return window.posted")
    assert posted == 0


def test_filters_and_the_detail_with_marked_words(page: Page) -> None:
    from selenium.webdriver.support.ui import Select

    page.go("decisions", "Decisions")
    page.wait("document.querySelectorAll('tbody tr').length > 4")
    Select(page.find("form select")).select_by_value("block")
    page.wait(
        "(rows => rows.length && rows.every(r => r.textContent.includes('block')))"
        "(Array.from(document.querySelectorAll('tbody tr')))"
    )
    page.wait("document.querySelector('tbody')?.textContent.includes('kill my neighbour')")
    page.find("tbody a").click()
    page.wait("document.querySelector('.text')?.textContent.length > 0")
    text = page.find(".text").text
    page.click("Mark words")
    page.wait("document.querySelectorAll('.text mark').length > 0")
    assert page.find(".text").text == text


def test_the_queue_is_worked_by_keyboard(page: Page, served) -> None:
    page.go("review", "Review")
    page.wait("document.querySelectorAll('.review-list li').length > 0")
    count = "document.querySelectorAll('.review-list li').length"
    before = page.driver.execute_script(f"return {count}")
    page.press("a")
    page.wait("!document.getElementById('alert').hidden")
    assert "name" in page.find("#alert").text, "who reviews is asked first"
    page.press("ada")
    page.driver.execute_script("document.activeElement.blur()")
    page.wait("document.querySelector('fieldset')")
    page.press("o")
    page.wait(f"{count} == {before - 1}")
    page.press("u")
    page.wait(f"{count} == {before}")
    identity = page.find(".two a").get_attribute("href").rpartition("/")[2]
    page.press("a")
    page.wait(f"{count} == {before - 1}")
    with Store.open(served[1]) as store:
        [label] = labels_of(store, identity)
    assert (label["reviewer"], label["answer"], label["category"]) == ("ada", "approve", "unsafe")


def test_thresholds_are_dragged_in_the_playground(page: Page) -> None:
    from selenium.webdriver.common.keys import Keys

    page.go("playground", "Playground")
    page.wait("document.querySelector('[data-measure=flag-recall]')")
    page.find("#play-text").send_keys("How do I kill my neighbour?")
    page.click("Score")
    page.wait("document.querySelector('h2 .badge')")
    slider = page.find("input[data-kind=flag]")
    cell = "document.querySelector('[data-measure=flag-recall]').textContent"
    recalls = [page.driver.execute_script(f"return {cell}")]
    for key in (Keys.HOME, Keys.END):
        slider.send_keys(key)
        page.wait(f"{cell} != arguments[0]", recalls[-1])
        recalls.append(page.driver.execute_script(f"return {cell}"))
    shares = [float(re.match(r"[\d.]+", one).group()) for one in recalls]
    assert shares[1] == 100.0
    assert shares[2] < shares[0] < shares[1]
    assert "flag: 1" in page.find("pre.code").text


def test_every_category_has_its_reliability_diagram(page: Page) -> None:
    page.go("model", "Calibration")
    page.wait("document.querySelector('main [data-done]')")
    label = page.find("svg[role=img]").get_attribute("aria-label")
    assert re.match(r"Reliability of Unsafe overall: expected calibration error 0\.0\d\d", label)
    rows = page.driver.execute_script("return document.querySelectorAll('tbody tr').length")
    assert rows == page.driver.execute_script("return document.querySelectorAll('main svg').length")


@pytest.mark.parametrize("view", ["live", "decisions", "review", "playground", "model"])
def test_every_field_has_a_label_and_nothing_overflows_a_phone(page: Page, view: str) -> None:
    page.go(view, {"model": "Calibration"}.get(view, view.capitalize()))
    unlabelled = page.driver.execute_script(
        "return Array.from(document.querySelectorAll('input, select, textarea'))"
        ".filter(f => !f.labels.length && !f.ariaLabel).map(f => f.outerHTML)"
    )
    assert unlabelled == []
    page.driver.set_window_size(500, 900)
    try:
        wide = page.driver.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide <= 0
    finally:
        page.driver.set_window_size(1300, 1000)


def test_it_asks_for_the_token_and_the_browser_reports_no_fault(page: Page) -> None:
    faults = [
        entry["message"]
        for entry in page.driver.get_log("browser")
        if entry["level"] == "SEVERE" and "TrustedHTML" not in entry["message"]
    ]
    assert faults == []
    page.driver.execute_script("sessionStorage.clear()")
    page.driver.get(page.base)
    page.wait("document.querySelector('input[type=password]')")
