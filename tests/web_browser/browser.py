"""Debian's chromium under Playwright, and what is asked of every page that it shows.

Every page is watched: an error in its console, a request to another host, or a style or script that
the policy refused fails the test in which it was opened.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Self

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

_ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
PHONE = ViewportSize(width=360, height=740)
DESKTOP = ViewportSize(width=1080, height=760)
_STANDARD = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the machine's own browser."""
    place = shutil.which("chromium")
    if place is None:
        pytest.fail("there is no chromium: `make web` installs Debian's package, where it may")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=place, args=_ARGUMENTS)
        yield browser
        browser.close()


class Reader:
    """One browser window of one person."""

    def __init__(self, browser: Browser, address: str, **options: Any) -> None:
        self.address = address
        self.faults: list[str] = []
        options = {"viewport": DESKTOP, "color_scheme": "light", **options}
        self._context = browser.new_context(base_url=address, **options)
        self.page = self._context.new_page()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", self._asked)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._context.close()
        assert not self.faults, self.faults

    def status(self, path: str) -> int:
        """Open a page and return the status of its answer."""
        answer = self.page.goto(path)
        assert answer is not None
        return answer.status

    def open(self, path: str) -> Page:
        """Open a page of the address; its answer is good."""
        assert self.status(path) == 200, path
        return self.page

    def check(self, path: str, *schemes: Literal["light", "dark"]) -> None:
        """Open a page and find nothing wrong with it: axe in both schemes, no sideways scroll.

        ``schemes``: these alone, where a page is so large that axe takes a minute.
        """
        self.open(path)
        for scheme in schemes or ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            found = Axe().run(self.page, options=_STANDARD)
            assert found.violations_count == 0, f"{path}, {scheme}: {found.generate_report()}"
        self.page.emulate_media(color_scheme="light")
        self.fits(path)

    def fits(self, path: str) -> None:
        """Find that an open page is no wider than a phone."""
        self.page.set_viewport_size(PHONE)
        wide = self.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= PHONE["width"], f"{path} is {wide} wide on a phone"
        self.page.set_viewport_size(DESKTOP)

    def _said(self, message: Any) -> None:
        # A page that says 403 or 503 on purpose is an error to the console, and none to us.
        told = any(f"status of {each}" in message.text for each in ("4", "503"))
        if message.type in ("error", "warning") and not told:
            self.faults.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((f"{self.address}/", "blob:", "data:")):
            self.faults.append(f"asked {request.url}")
