"""A real JupyterLab on a free port, a real Chromium in front of it, and what is done to a notebook there."""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required"]
START_S = 180

READY = """async () => {
    const widget = window.jupyterapp?.shell?.currentWidget;
    if (!widget?.sessionContext) return false;
    await widget.context.ready;
    await widget.sessionContext.ready;
    const kernel = widget.sessionContext.session?.kernel;
    if (!kernel) return false;
    await kernel.info;
    return kernel.connectionStatus === 'connected' && kernel.status === 'idle';
}"""

EXECUTE = """async (code) => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    const future = kernel.requestExecute({ code, store_history: false });
    let said = '';
    future.onIOPub = (message) => {
        if (message.content.text) said += message.content.text;
        if (message.content.evalue) said += message.content.ename + ': ' + message.content.evalue;
    };
    await future.done;
    return said;
}"""


def find_browser():
    """The browser's path. Without one, a test is skipped; not where CI is set: there it must be installed."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        message = f"no browser is installed: none of {', '.join(BROWSERS)} (on Debian: apt-get install chromium)"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(message)
        pytest.skip(message)
    return found


@contextlib.contextmanager
def jupyter_lab(home, notebooks, *, dark=False, kernels=None):
    """The address of a JupyterLab that serves the folder `notebooks`. Everything it writes goes to `home`.

    kernels: a folder with `kernels/NAME/kernel.json`, besides the interpreter's own."""
    token = secrets.token_hex(12)
    settings = home / "settings"
    chosen = {"notification": {"fetchNews": "false"}, "themes": {"theme": f"JupyterLab {'Dark' if dark else 'Light'}"}}
    for plugin, values in chosen.items():
        file = settings / "@jupyterlab" / "apputils-extension" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    folders = {name: str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    env = os.environ | {f"JUPYTER_{name}_DIR": folder for name, folder in folders.items()}
    env |= {
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "HARMONIA_HOME": str(home / "harmonia"),
        "OLLAMA_HOST": "127.0.0.1:9",
    }
    if kernels is not None:
        env["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(kernels), env.get("JUPYTER_PATH")]))
    options = [
        "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0",
        f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={notebooks}", "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.extension_manager=readonly",
        "--LabApp.expose_app_in_browser=True",
    ]  # fmt: skip
    home.mkdir(parents=True, exist_ok=True)
    log = home / "jupyter.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], env=env, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError, ValueError, StopIteration):  # not there yet, or half written
                told = json.loads(next(Path(folders["RUNTIME"]).glob("jpserver-*.json")).read_text())
                address = f"http://127.0.0.1:{told['port']}"
                urllib.request.urlopen(f"{address}/api/status?token={token}", timeout=START_S).close()
                break
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.1)
        yield Address(address, token)
    finally:
        server.terminate()  # its kernels end with it
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


class Address:
    def __init__(self, base, token):
        self.base, self.token = base, token

    def of(self, notebook):
        return f"{self.base}/lab/tree/{notebook}?token={self.token}&reset"


@contextlib.contextmanager
def chromium():
    """A browser. One at a time: Playwright's loop is the thread's."""
    executable = find_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, headless=True, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Notebook:
    """A notebook that is open in JupyterLab."""

    def __init__(self, page, address, name):
        self.page, self.address, self.name = page, address, name
        page.set_default_timeout(600_000)  # against hangs alone
        self.open()

    def open(self):
        self.page.goto(self.address.of(self.name), wait_until="domcontentloaded")
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell", state="attached")
        self.page.wait_for_function(READY)

    def run_all(self):
        """Begins it. The command's own promise waits for the last cell."""
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")

    def run_cell(self, index):
        self.page.evaluate(
            """(index) => {
                const notebook = window.jupyterapp.shell.currentWidget.content;
                notebook.activeCellIndex = index;
                window.jupyterapp.commands.execute('notebook:run-cell');
            }""",
            index,
        )

    def save(self):
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")

    def execute(self, code):
        """What the notebook's kernel says to `code`."""
        return self.page.evaluate(EXECUTE, code)

    def interrupt(self):
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.interrupt()")
        self.page.wait_for_function(READY)

    def restart(self):
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
        self.page.wait_for_function(READY)


SLOW = [
    (
        "if 'lab' in globals(): lab.close()  # of a test before in the same kernel\n"
        "from harmonia_lab import Lab\n"
        "from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine\n"
        "lab = Lab(metadata=FakeMetadataEngine(step_s=0.05, steps=4000), audio=FakeAudioEngine(), songs='songs')"
    ),
    "job = lab.submit('A story.', seconds=2, generation_id='slow')\njob",
    "lab.panel('slow')",
]
"""Cells of a notebook whose song takes longer than any test."""


def write(path, cells):
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    made = [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=kernel), path)


def wait_for(page, condition, argument=None):
    page.wait_for_function(condition, arg=argument)


def until_status(page, *wanted):
    wait_for(
        page,
        "(wanted) => [...document.querySelectorAll('.hl-panel')].map((p) => p.dataset.status).join() === wanted",
        ",".join(wanted),
    )


def picture(page, name, tmp_path):
    kept = os.environ.get("HARMONIA_SCREENSHOTS")
    page.screenshot(path=(Path(kept) if kept else tmp_path) / name)
