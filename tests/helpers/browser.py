"""A headless Chromium with its own driver, and what a page did in it."""

import base64
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def installed() -> bool:
    """Whether Chromium and its driver are here (Debian: chromium, chromium-driver)."""
    return shutil.which("chromium") is not None and shutil.which("chromedriver") is not None


class Browser:
    """One tab. ``opened`` pages are waited for until they say that they are drawn."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self.run = driver.execute_script

    def open(self, page: Path, fragment: str = "", width: int = 1280, dark: bool = False) -> None:
        """Open a file at a width in pixels, and wait until its plots are drawn."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get("about:blank")
        self.messages()
        self.requests()
        self.driver.get(page.as_uri() + fragment)
        self.wait(lambda: self.run("return document.documentElement.dataset.ready"))

    def wait(self, done: Callable[[], Any], seconds: float = 90.0) -> None:
        """Until ``done`` returns something true."""
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, self.messages()
            time.sleep(0.05)

    def text(self, selector: str) -> str:
        """The text of an element, as it stands in the document."""
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def choose(self, name: str, value: str) -> None:
        """Set a control as a user does: its value, and the event."""
        self.run(
            "const c = document.querySelector(`[data-state=${arguments[0]}]`); c.value ="
            " arguments[1]; c.dispatchEvent(new Event('input', {bubbles: true}))",
            name,
            value,
        )

    def messages(self, errors: bool = False) -> list[str]:
        """What the console has said since the last call; ``errors``: without mere warnings."""
        said = self.driver.get_log("browser")
        return [e["message"] for e in said if e["level"] == "SEVERE" or not errors]

    def requests(self) -> set[str]:
        """Addresses asked for since the last call, but those inside the page itself."""
        events = [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]
        asked = {
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        }
        return {url for url in asked if not url.startswith(("data:", "about:", "blob:", "chrome:"))}

    def screenshot(self, path: Path) -> None:
        """The whole page, however long."""
        width, height = self.run(
            "const e = document.documentElement; return [innerWidth, e.scrollHeight]"
        )
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        options = {"captureBeyondViewport": True, "clip": clip}
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", options)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A browser with an empty ``profile``; downloads go into it too."""
    options = Options()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*FLAGS, f"--user-data-dir={profile / 'user'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(profile)})
    driver = webdriver.Chrome(options, Service(str(shutil.which("chromedriver"))))
    try:
        driver.set_script_timeout(120)
        yield Browser(driver)
    finally:
        driver.quit()
