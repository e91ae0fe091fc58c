"""The report in a real Chromium: pictures are decoded, nothing sticks out, both colour schemes."""

import json
import re
import shutil
import subprocess
from html import escape, unescape

import pytest
from PIL import Image

from retrieval.report.page import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium or Chrome on this machine")

FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --enable-logging=stderr"
).split()
PHONE, DESKTOP = 390, 1280
# Runs inside the test's copy of the page, in a frame as wide as a phone or a desktop window.
PROBE = """
<script>
const errors = []
addEventListener('error', event => errors.push(event.message))
addEventListener('load', async () => {
  const decoded = await Promise.all([...document.querySelectorAll('symbol image')].map(async one => {
    const picture = new Image()
    picture.src = one.getAttribute('href')
    await picture.decode()
    return Math.max(picture.naturalWidth, picture.naturalHeight)
  }))
  const size = one => { const box = one.getBoundingClientRect(); return [box.width, box.height] }
  const findings = {
    errors, decoded,
    width: innerWidth, needed: document.documentElement.scrollWidth,
    shown: [...document.querySelectorAll('article .picture use')].map(size),
    queries: [...document.querySelectorAll('#failures blockquote')].map(one => one.innerText.trim()),
    scrolling: [...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth).length,
    charts: [...document.querySelectorAll('svg.chart')].map(size),
  }
  frameElement.setAttribute('data-findings', JSON.stringify(findings))
})
</script>
"""


def chromium(folder, *options, page):
    """What Chromium wrote: (stdout, messages of the page's console)."""
    run = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", *options, page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )
    return run.stdout, re.findall(r"CONSOLE.*", run.stderr)


@pytest.fixture
def report(full, tmp_path):
    path = tmp_path / "report.html"
    write_report(path, full)
    return path


@pytest.fixture
def findings(report, tmp_path):
    """What the probe found, by the width of the window."""
    page = escape(report.read_text(encoding="utf-8").replace("</body>", PROBE + "</body>"))
    frames = "".join(f'<iframe srcdoc="{page}" width="{width}" height="900" style="border: 0"></iframe>'
                     for width in (PHONE, DESKTOP))
    both = tmp_path / "frames.html"
    both.write_text(f'<!doctype html><meta charset="utf-8">{frames}', encoding="utf-8")
    dom, messages = chromium(tmp_path, "--virtual-time-budget=10000", "--dump-dom", page=both)
    assert messages == []
    found = [json.loads(unescape(one)) for one in re.findall(r'data-findings="([^"]*)"', dom)]
    return {one["width"]: one for one in found}


def test_in_windows_of_a_phone_and_a_desktop(findings, full):
    assert sorted(findings) == [PHONE, DESKTOP]
    asked = [one.text for failures in full.failures.values() for one in failures if one.text]
    for width, one in findings.items():
        assert one["errors"] == []
        assert one["needed"] == width  # tables scroll inside their boxes, the page does not
        assert one["decoded"] == [160] * 7
        assert one["queries"] == asked
        assert len(one["shown"]) > 20 and all(min(size) > 60 for size in one["shown"])
        assert len(one["charts"]) == 4 and all(min(size) > 50 for size in one["charts"])
    assert findings[PHONE]["scrolling"] > findings[DESKTOP]["scrolling"] == 0


@pytest.mark.parametrize(
    ("setting", "page", "ink"), [(1, (246, 247, 249), (27, 33, 40)), (0, (18, 21, 25), (228, 232, 237))],
    ids=["light", "dark"],
)
def test_pictures_and_colours_are_painted(report, tmp_path, setting, page, ink):
    shot = tmp_path / "shot.png"
    _, messages = chromium(
        tmp_path, f"--blink-settings=preferredColorScheme={setting}", f"--window-size={DESKTOP},6000",
        f"--screenshot={shot}", page=report,
    )
    assert messages == []
    painted = Image.open(shot).convert("RGB")
    colours = {colour: count for count, colour in painted.getcolors(painted.width * painted.height)}
    assert painted.getpixel((2, 2)) == page
    assert colours[ink] > 1000  # letters
    assert len(colours) > 20_000  # photos
    magenta = sum(count for (r, g, b), count in colours.items() if r > 245 and g < 10 and b > 245)
    assert magenta > 3 * 100 * 60  # several thumbnails of it
