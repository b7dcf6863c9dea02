"""JupyterLab in a real browser, as a student starts it: notebook 00 runs from top to bottom, the
film of notebook 06 plays.

    pip install -e ".[test,browser]" && pytest tests/test_browser.py -m browser

Needs Chromium and its driver (Debian and Ubuntu: chromium, chromium-driver). Screenshots go to the
folder that BROWSER_SHOTS names, or to pytest's own.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parent.parent
FLAGS = (
    "headless=new no-sandbox disable-gpu no-first-run disable-background-networking "
    "disable-component-update disable-sync"
)
WHOLE = {"windowingMode": "none"}  # every cell is in the page, not only those in view
PROMPTS = (
    "return [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]"
    ".map(e => e.textContent.trim())"
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A server on a copy of the course, which trusts its own notebooks: the copy's folder, and
    addresses to format.
    """
    home = tmp_path_factory.mktemp("lab")
    for part in ("notebooks", "data_samples"):
        shutil.copytree(
            ROOT / part, home / part, ignore=shutil.ignore_patterns(".ipynb_checkpoints")
        )
    folders = {
        f"JUPYTER_{name}_DIR": str(home / f".{name.lower()}")
        for name in ("CONFIG", "DATA", "RUNTIME")
    }
    environment = os.environ | folders | {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    settings = (
        home
        / ".config/lab/user-settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings"
    )
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(WHOLE))
    jupyter = [sys.executable, "-m", "jupyter"]
    notebooks = map(str, sorted((home / "notebooks").glob("0*.ipynb")))
    subprocess.run(
        [*jupyter, "trust", *notebooks], env=environment, check=True, capture_output=True
    )
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [
        *jupyter,
        "lab",
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        "--IdentityProvider.token=t",
    ]
    log = home / "log.txt"
    with log.open("w") as lines:
        server = subprocess.Popen(
            [*command, f"--ServerApp.root_dir={home}"], env=environment, stdout=lines, stderr=lines
        )
    try:
        wait(lambda: "is running at" in log.read_text(), 60, "the server has not started")
        yield home, f"http://localhost:{port}/lab/tree/notebooks/{{}}?token=t"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def browser(tmp_path):
    """Chromium, headless; what it shows at the end of a test, passed or not, is kept as
    TEST.png.
    """
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in (*FLAGS.split(), "window-size=1300,1500", f"user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(f"--{flag}")
    options.binary_location = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    name = os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split()[0]
    driver.save_screenshot(str(Path(os.environ.get("BROWSER_SHOTS", tmp_path)) / f"{name}.png"))
    driver.quit()


def wait(happened, seconds, otherwise):
    """What `happened` returns, as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.5)
    return found


def click(browser, path, seconds=60):
    """The first element of this XPath that can be seen, once there is one."""
    wait(
        lambda: [e for e in browser.find_elements("xpath", path) if e.is_displayed()],
        seconds,
        f"no {path}",
    )[0].click()


def test_notebook_00_runs_from_top_to_bottom(lab, browser):
    home, address = lab
    saved = home / "notebooks" / "00_quickstart.ipynb"
    browser.get(address.format(saved.name))
    wait(lambda: browser.execute_script(PROMPTS), 90, "the notebook has not opened")
    click(browser, "//div[text()='Kernel']")
    click(browser, "//div[starts-with(text(), 'Restart Kernel and Clear Outputs')]")
    click(browser, "//button[contains(@class, 'jp-mod-accept')]")
    wait(lambda: "[1]:" not in browser.execute_script(PROMPTS), 30, "outputs were not cleared")
    click(browser, "//div[text()='Run']")
    click(browser, "//div[text()='Run All Cells']")
    cells = len(browser.execute_script(PROMPTS))
    wait(lambda: f"[{cells}]:" in browser.execute_script(PROMPTS), 400, "the last cell has not run")
    assert browser.execute_script(PROMPTS) == [f"[{k + 1}]:" for k in range(cells)]
    click(browser, "//div[text()='File']")
    click(browser, "//div[text()='Save Notebook']")
    wait(lambda: saved.stat().st_mtime > time.time() - 30, 30, "the notebook was not saved")
    code = [cell for cell in json.loads(saved.read_text())["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output["evalue"] for output in outputs if output["output_type"] == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
    browser.execute_script("document.querySelectorAll('.jp-RenderedImage')[0].scrollIntoView()")


def test_the_film_plays(lab, browser):
    _, address = lab
    browser.get(address.format("06_sampling_pairs.ipynb"))
    frame = "return document.querySelector('.animation img')?.src"
    wait(lambda: browser.execute_script(frame), 90, "there is no film")
    browser.execute_script("document.querySelector('.animation').scrollIntoView({block: 'center'})")
    click(browser, "//div[@class='anim-buttons']/button[contains(@title, 'First frame')]")
    seen = [browser.execute_script(frame)]
    click(browser, "//div[@class='anim-buttons']/button[@title='Play']")
    wait(
        lambda: seen.append(browser.execute_script(frame)) or len(set(seen)) >= 4,
        20,
        "the film stands still",
    )
    assert all(re.match("data:image/png;base64,", picture) for picture in seen)
