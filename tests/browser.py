"""A real browser without a screen."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1400,1000",
]


class BrowserMissing(Exception):
    """There is no Chromium, or no driver of it."""


def find(*names: str, path: str | None = None) -> str:
    """
    Return where the first program is that is there.

    :param path: Where programs are looked for. Default: ``PATH``.
    :raises BrowserMissing: there is none of them.
    """
    found = next(filter(None, (shutil.which(name, path=path) for name in names)), None)
    if found is None:
        raise BrowserMissing(
            f"There is no {names[0]} on PATH: install Chromium and its driver "
            "(in Debian the packages chromium and chromium-driver)."
        )
    return found


@contextlib.contextmanager
def browser(profile: Path, *, path: str | None = None) -> Iterator[webdriver.Chrome]:
    """
    Start a browser with an empty profile, and end it with everything that it has started.

    :param profile: An empty folder.
    :param path: Where its programs are looked for. Default: ``PATH``.
    """
    options = webdriver.ChromeOptions()
    options.binary_location = find("chromium", "google-chrome", path=path)
    for flag in [*FLAGS, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # A path is given, so that no driver is looked for on the network.
    service = Service(find("chromedriver", path=path), popen_kw={"start_new_session": True})
    driver = None
    try:
        driver = webdriver.Chrome(options=options, service=service)
        driver.set_page_load_timeout(30)
        yield driver
    finally:
        group = service.process.pid if service.process else None
        if driver is not None:
            driver.quit()
        if group is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
