"""Photographs pages in a real browser."""

import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((found for name in NAMES if (found := shutil.which(name))), None)
needs_a_browser = pytest.mark.skipif(
    BROWSER is None, reason=f"needs a browser: none of {', '.join(NAMES)} is installed"
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE = 20_000
"""Milliseconds of the page's own clock, which runs ahead while nothing is loaded."""


def photograph(url: str, png: Path, width: int = 1600, height: int = 1400) -> str:
    """Load a page, keep its picture, and return its elements as they are then."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        settings = (
            *(f"--user-data-dir={profile}", f"--window-size={width},{height}"),
            *(f"--virtual-time-budget={PATIENCE}", f"--screenshot={png}", "--dump-dom"),
        )
        loaded = subprocess.run(
            [str(BROWSER), *FLAGS, *settings, url],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    return loaded.stdout
