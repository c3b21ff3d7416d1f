"""Trigger an example from the form in a real browser, look at what there is, and keep pictures of it."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from airflow_async_sm.demo.local_airflow import LocalAirflow
from airflow_async_sm.demo.runs import follow
from airflow_async_sm.emulator import Behaviour, SageMakerAsyncEmulator, airflow_connection
from tests.browser import browser

ROOT = Path(__file__).parents[1]
DAG_ID = "example_invoke_single"
SECONDS = 30.0
RUN_SECONDS = 300.0


class Visitor:
    """
    Somebody who looks at pages.

    :param driver: The browser.
    :param airflow: Whose pages.
    :param folder: Where pictures are kept.
    """

    def __init__(self, driver: webdriver.Chrome, airflow: LocalAirflow, folder: Path) -> None:
        self._driver, self._airflow, self._folder = driver, airflow, folder

    def goes_to(self, path: str) -> None:
        self._driver.get(f"{self._airflow.url}{path}")

    def sees(self, *words: str) -> None:
        """Wait until all words are on the page."""

        def all_there(driver: webdriver.Chrome) -> bool:
            text = driver.find_element(By.TAG_NAME, "body").text
            return all(word in text for word in words)

        self._wait(all_there, f"{words} on {self._driver.current_url}")

    def clicks(self, xpath: str) -> None:
        """Click what can be clicked, as soon as it is there."""

        def found(driver: webdriver.Chrome) -> WebElement | None:
            there = [element for element in driver.find_elements(By.XPATH, xpath) if element.is_displayed()]
            return there[0] if there and there[0].is_enabled() else None

        element: WebElement = self._wait(found, xpath)
        self._driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def keeps(self, name: str) -> None:
        """Keep a picture of what the browser shows, when nothing moves any more."""
        before = b""
        give_up_at = time.monotonic() + SECONDS
        while (picture := self._driver.get_screenshot_as_png()) != before and time.monotonic() < give_up_at:
            before = picture
            time.sleep(0.7)
        (self._folder / f"{name}.png").write_bytes(picture)
        sys.stdout.write(f"{name}.png\n")

    def _wait(self, holds: Callable[[webdriver.Chrome], Any], what: str) -> Any:
        try:
            return WebDriverWait(self._driver, SECONDS, ignored_exceptions=[Exception]).until(holds)
        except Exception:
            self._driver.save_screenshot(str(self._folder / "not-found.png"))
            sys.stderr.write(
                f"Not seen within {SECONDS:.0f} s: {what}. What was there is in not-found.png.\n"
            )
            raise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "images", help="where pictures go")
    folder = parser.parse_args().folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
    with (
        tempfile.TemporaryDirectory() as profile,
        SageMakerAsyncEmulator(behaviour=Behaviour(queue_seconds=5)) as emulator,
        LocalAirflow(
            ROOT / "dags",
            environment={"AIRFLOW_CONN_AWS_DEFAULT": airflow_connection(emulator.url)},
            min_heartbeat_interval=1,
            paused_at_creation=True,
        ) as airflow,
        browser(Path(profile)) as driver,
    ):
        walk(Visitor(driver, airflow, folder), airflow)


def walk(visitor: Visitor, airflow: LocalAirflow) -> None:
    """Go the way of a stranger: the list, a DAG, its form, a run, its tasks."""
    for file in (ROOT / "dags").glob("example_*.py"):
        airflow.wait_for_dag(file.stem, timeout=120, file=file)
    visitor.goes_to("/dags")
    visitor.sees(DAG_ID)
    visitor.keeps("examples")

    visitor.goes_to(f"/dags/{DAG_ID}")
    visitor.clicks("//button[contains(., 'Trigger')]")
    visitor.sees("The ten standardised values of one patient")
    visitor.keeps("form")
    visitor.clicks("//div[@role='dialog']//button[contains(., 'Trigger')]")

    run_id = the_run(airflow)
    report = follow(airflow, DAG_ID, run_id, timeout=RUN_SECONDS, on_change=lambda _: None)
    if not report.succeeded:
        raise SystemExit(f"The run ended as {report.state}: {[vars(task) for task in report.failed_tasks]}")
    run = f"/dags/{DAG_ID}/runs/{run_id}"
    visitor.goes_to(run)
    visitor.sees("invoke", "use_prediction")
    visitor.clicks("//button[starts-with(@aria-label, 'Show Graph')]")
    visitor.sees("SageMakerAsyncInvokeOperator")
    visitor.keeps("run")
    visitor.clicks("//button[starts-with(@aria-label, 'Show Grid')]")
    visitor.goes_to(f"{run}/tasks/invoke")
    visitor.sees("is answered after")
    visitor.keeps("log")
    visitor.goes_to(f"{run}/tasks/invoke/rendered_templates")
    visitor.sees("endpoint_name", "146 characters")
    visitor.keeps("templates")
    # To links there is nothing to see: an emulator has no pages in the AWS console.
    visitor.goes_to(f"{run}/tasks/invoke/xcom")
    visitor.sees("handle", "return_value")
    visitor.keeps("xcom")


def the_run(airflow: LocalAirflow) -> str:
    """Return the run that the form has begun."""
    give_up_at = time.monotonic() + SECONDS
    while not (runs := airflow._rest._read(f"/dags/{DAG_ID}/dagRuns")["dag_runs"]):
        if time.monotonic() > give_up_at:
            raise SystemExit("The form has begun no run.")
        time.sleep(0.3)
    return str(runs[0]["dag_run_id"])


if __name__ == "__main__":
    main()
