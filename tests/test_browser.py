"""JupyterLab as a student starts it, in a real browser: notebook 00 runs, and the film of notebook 06 plays.

Needs Chromium and its driver (Debian: chromium, chromium-driver): pip install -e ".[test,browser]" && pytest -m browser
Screenshots go to BROWSER_SHOTS, if that names a folder.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parent.parent
FLAGS = "headless=new no-sandbox disable-gpu no-first-run disable-background-networking disable-component-update disable-sync"
PANEL = "[...window.jupyterapp.shell.widgets('main')][0]"
CELLS = f"{PANEL}.content.model.cells"
STATE = f"""
    const found = [];
    for (const cell of {CELLS})
        if (cell.type === 'code' && cell.sharedModel.source.trim())
            found.push([cell.executionCount, cell.outputs.toJSON().map(o => o.output_type === 'error' ? o.evalue : '')]);
    return found;
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a server on a copy of the course, which trusts it as its author does."""
    home = tmp_path_factory.mktemp("lab")
    for part in ("notebooks", "data_samples"):
        shutil.copytree(ROOT / part, home / part, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    folders = {f"JUPYTER_{name}_DIR": str(home / f".{name.lower()}") for name in ("CONFIG", "DATA", "RUNTIME")}
    environment = os.environ | folders | {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    jupyter = [sys.executable, "-m", "jupyter"]
    trust = [*jupyter, "trust", *map(str, (home / "notebooks").glob("*.ipynb"))]
    subprocess.run(trust, env=environment, check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    options = ["--no-browser", f"--port={port}", "--IdentityProvider.token=t", "--LabApp.expose_app_in_browser=True"]
    command = [*jupyter, "lab", "--allow-root", f"--ServerApp.root_dir={home}", *options]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait(lambda: "is running at" in (home / "log").read_text(), 60)
        yield f"http://localhost:{port}/lab/tree/notebooks/{{}}?token=t"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def browser(tmp_path):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in (*FLAGS.split(), "window-size=1300,1500", f"user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(f"--{flag}")
    options.binary_location = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def wait(happened, seconds):
    """What `happened` returns, as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.5)
    return found


def opened(browser, address):
    """Open a notebook, and wait until its kernel is at rest."""
    browser.get(address)
    idle = f"return window.jupyterapp && {PANEL}?.sessionContext?.session?.kernel?.status === 'idle'"
    wait(lambda: browser.execute_script(idle), 90)
    browser.execute_script(f"window.jupyterapp.shell.activateById({PANEL}.id)")


def click(browser, *labels):
    """A menu of the bar, and what is in it."""
    label = "//*[contains(@class, 'MenuBar-itemLabel') or contains(@class, 'Menu-itemLabel')][text()='{}']"
    for path in map(label.format, labels):
        wait(lambda path=path: [e for e in browser.find_elements("xpath", path) if e.is_displayed()], 20)[0].click()


def shot(browser, name):
    folder = os.environ.get("BROWSER_SHOTS")
    if folder:
        browser.save_screenshot(str(Path(folder) / name))


def test_run_all(lab, browser):
    opened(browser, lab.format("00_quickstart.ipynb"))
    browser.execute_script("window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
    wait(lambda: not any(count for count, _ in browser.execute_script(STATE)), 20)
    click(browser, "Run", "Run All Cells")
    wait(lambda: all(count for count, _ in browser.execute_script(STATE)), 400)
    cells = browser.execute_script(STATE)
    shot(browser, "notebook_00.png")
    assert [count for count, _ in cells] == list(range(1, len(cells) + 1)) and not [
        e for _, errors in cells for e in errors if e
    ]


def test_the_film_plays(lab, browser):
    opened(browser, lab.format("06_sampling_pairs.ipynb"))
    film = f"""
        const notebook = {PANEL}.content;
        const film = [...{CELLS}].findIndex(cell => cell.type === 'code' && /to_jshtml/.test(cell.sharedModel.source));
        notebook.activeCellIndex = film;
        return notebook.scrollToItem(film, 'center').then(() => true);
    """
    browser.execute_script(film)
    frame = "return document.querySelector('.animation img')?.src.slice(-200)"
    first = wait(lambda: browser.execute_script(frame), 30)
    browser.execute_script("document.querySelector('.anim-buttons button[title=\"First frame\"]').click()")
    seen = {first}
    browser.execute_script("document.querySelector('.anim-buttons button[title=\"Play\"]').click()")
    for _ in range(20):
        seen.add(browser.execute_script(frame))
        time.sleep(0.1)
    shot(browser, "notebook_06.png")
    assert len(seen) >= 4
