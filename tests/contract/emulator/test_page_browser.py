"""The emulator's page as a person sees it: in a real browser without a screen."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from airflow_async_sm.emulator.settings.faults import ModelLatency
from tests import given
from tests.browser import BrowserMissing
from tests.browser import browser as started
from tests.world import eventually

pytestmark = pytest.mark.default_airflow

PHONE = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A browser with an empty profile."""
    with pytest.MonkeyPatch.context() as variables:
        for name in ("NO_PROXY", "no_proxy"):
            variables.setenv(name, "127.0.0.1,localhost")
        try:
            with started(tmp_path_factory.mktemp("profile"), path=given.ENVIRONMENT.get("PATH")) as driver:
                yield driver
        except BrowserMissing as error:
            pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="module")
def shown(world):
    """An account with something of everything that the page shows, and what that is."""
    name = world.deploy(concurrency=1)
    other = world.deploy()
    good = world.ended(world.submit(name, InferenceId="the-good-one"))
    bad = world.ended(world.submit(name, mode="refuse", InferenceId="the-bad-one"))
    elsewhere = world.ended(world.submit(other, InferenceId="elsewhere <b>&amp;"))
    fault = world.emulator.faults.add(ModelLatency(seconds=0.25, endpoint="nobody"))
    yield {"endpoint": name, "other": other, "good": good, "bad": bad, "elsewhere": elsewhere}
    world.emulator.faults.remove(fault)


@pytest.fixture
def page(browser, world, shown):
    """The page, standing still."""
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get_log("browser")
    browser.get(f"{world.emulator.url}/?refresh=off")
    yield browser
    # Whatever a test did, nothing may have gone wrong in the page: no broken resource, no violated policy.
    assert browser.get_log("browser") == []


def row(page, section, words):
    """Return the text of the only row of a section that has all of the words."""
    rows = page.find_elements(By.CSS_SELECTOR, f"#{section} tbody tr")
    texts = [found.text for found in rows if all(word in found.text for word in words)]
    assert len(texts) == 1, [found.text for found in rows]
    return texts[0]


def inference_ids(page):
    return [cell.text for cell in page.find_elements(By.CSS_SELECTOR, "#requests td:nth-of-type(2) code")]


def follow(page, element):
    """Click and wait until the next page is there."""
    before = page.find_element(By.TAG_NAME, "html")
    element.click()
    WebDriverWait(page, 20).until(lambda _: page.find_element(By.TAG_NAME, "html") != before)


def test_endpoints_are_shown_with_status_and_instances(page, shown):
    assert page.title == "SageMaker Asynchronous Inference emulator"
    text = row(page, "endpoints", [shown["endpoint"]])
    assert "InService" in text
    assert "AllTraffic: 1 / 1" in text
    assert "us-east-1" in text


def test_requests_are_shown_with_state_and_places_newest_first(page, shown):
    text = row(page, "requests", ["the-good-one"])
    assert "succeeded" in text
    assert shown["good"].output_location in text.replace("\n", "")
    ids = inference_ids(page)
    assert ids.index("elsewhere <b>&amp;") < ids.index("the-bad-one") < ids.index("the-good-one")


def test_failed_request_says_why(page):
    text = row(page, "requests", ["the-bad-one"])
    assert "failed" in text
    assert "Received client error (400) from model" in text


def test_faults_are_shown(page):
    text = row(page, "faults", ["model_latency"])
    assert "0.25" in text
    assert "nobody" in text


def test_link_of_an_endpoint_filters_its_requests(page, shown):
    follow(page, page.find_element(By.LINK_TEXT, shown["other"]))
    assert inference_ids(page) == ["elsewhere <b>&amp;"]


def test_form_filters_by_state(page, shown):
    form = page.find_element(By.CSS_SELECTOR, "#requests form")
    Select(form.find_element(By.NAME, "endpoint")).select_by_visible_text(shown["endpoint"])
    Select(form.find_element(By.NAME, "state")).select_by_visible_text("failed")
    follow(page, form.find_element(By.TAG_NAME, "button"))
    assert inference_ids(page) == ["the-bad-one"]
    assert "Paused." in page.find_element(By.TAG_NAME, "header").text


@pytest.mark.parametrize("query", ["", "?state=failed", "?endpoint=absent"])
def test_phone_shows_it_without_scrolling_sideways(page, world, query):
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    page.get(f"{world.emulator.url}/{query}")
    widths = page.execute_script("return [window.innerWidth, document.documentElement.scrollWidth]")
    assert widths == [PHONE["width"], PHONE["width"]]


def test_page_renews_itself(page, world):
    follow(page, page.find_element(By.ID, "refresh"))
    assert "Refreshes every" in page.find_element(By.TAG_NAME, "header").text
    # An endpoint of its own: the other tests know what was sent to theirs.
    identity = world.submit(world.deploy(), InferenceId="while-it-is-open")["InferenceId"]
    eventually(lambda: identity in page.page_source, within=30)
