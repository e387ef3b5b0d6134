"""A headless Chromium that looks at the running lab's page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.running import Running

DESKTOP = (1280, 900)
PHONE = (390, 844)
FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
Open = Callable[..., Any]


def program(*names: str) -> str:
    """The path of the first of these programs that is installed."""
    for name in names:
        if path := shutil.which(name):
            return path
    pytest.fail(f"{names[0]} is missing: apt-get install chromium chromium-driver (`make test` does it)")


def start(folder: Path, size: tuple[int, int], dark: bool, script: bool) -> Any:
    """A browser with an empty profile. Width and height in CSS pixels; below 600 it is a phone."""
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium", "google-chrome")
    for flag in (*FLAGS, f"--user-data-dir={folder}", f"--window-size={size[0]},{size[1]}"):
        options.add_argument(flag)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(program("chromedriver")))
    browser.set_page_load_timeout(30)
    resize(browser, size)
    # No motion, so that no picture is taken in the middle of one.
    media = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in media.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
    return browser


def resize(browser: Any, size: tuple[int, int]) -> None:
    """Give the view a size in CSS pixels."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 600},
    )


@pytest.fixture(scope="session")
def address(running: Running) -> str:
    """The page on plain HTTP, since Chromium does not know the lab's authority; HTTPS has a test of its own."""
    return f"http://{running.lab.group('frontend')[0].address}/"


@pytest.fixture
def open_page(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """Opens the page in a browser of its own: ``open_page(size, dark, script)``."""
    browsers: list[Any] = []

    def open_it(size: tuple[int, int] = DESKTOP, dark: bool = False, script: bool = True) -> Any:
        browser = start(tmp_path_factory.mktemp("profile"), size, dark, script)
        browsers.append(browser)
        browser.get(address)
        return browser

    yield open_it
    for browser in browsers:
        browser.quit()


@pytest.fixture
def view(open_page: Open) -> Any:
    """The page on a desktop, opened just now."""
    return open_page()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures go: the folder PICTURES (``docs/images`` renews those of the documentation), else away."""
    folder = os.environ.get("PICTURES")
    path = Path(folder) if folder else tmp_path_factory.mktemp("pictures")
    path.mkdir(parents=True, exist_ok=True)
    return path
