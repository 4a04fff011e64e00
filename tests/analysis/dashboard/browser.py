"""A headless Chromium, driven over WebDriver with the standard library alone."""

import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import urllib.request

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
AVAILABLE = CHROMIUM is not None and DRIVER is not None
OPTIONS = ("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-sync",
           "disable-background-networking", "disable-component-update")  # fmt: skip
KEYS = {"Escape": "\ue00c", "Enter": "\ue007", "ArrowLeft": "\ue012", "ArrowRight": "\ue014"}


class Browser:
    """One window.

    Args:
        base: address of the session.
    """

    def __init__(self, base):
        self.base = base

    def post(self, path, body):
        """A command and what it answers."""
        return ask(f"{self.base}/{path}", body)

    def open(self, file, anchor=""):
        """Show a file."""
        self.post("url", {"url": file.resolve().as_uri() + anchor})

    def run(self, script):
        """What a script returns."""
        return self.post("execute/sync", {"script": script, "args": []})

    def press(self, *keys):
        """Press keys one after another, wherever the focus is."""
        actions = []
        for key in keys:
            value = KEYS.get(key, key)
            actions += [{"type": kind, "value": value} for kind in ("keyDown", "keyUp")]
        self.post("actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def devtools(self, command, **parameters):
        """A command of the DevTools protocol."""
        return self.post("goog/cdp/execute", {"cmd": command, "params": parameters})

    def look(self, width, height=900, dark=False, phone=False):
        """Set size and color scheme."""
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height,
                      deviceScaleFactor=1, mobile=phone)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, file):
        """Write what is seen as PNG."""
        found = self.devtools("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(found["data"]))

    def requests(self):
        """Addresses asked for since the last call."""
        found = []
        for entry in self.post("se/log", {"type": "performance"}):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(message["params"]["request"]["url"])
        return found

    def complaints(self):
        """Errors of scripts and refusals of the content security policy since the last call."""
        return [one["message"] for one in self.post("se/log", {"type": "browser"})]


def ask(address, body=None, method="POST"):
    """One exchange with the driver."""
    data = None if method == "DELETE" else json.dumps(body).encode()
    request = urllib.request.Request(address, data, method=method)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=60) as answer:
        return json.load(answer)["value"]


@contextlib.contextmanager
def browser():
    """A browser with a profile of its own; it is closed at the end."""
    with tempfile.TemporaryDirectory() as profile, contextlib.ExitStack() as stack:
        driver = subprocess.Popen(
            [DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        stack.callback(driver.wait, 20)
        stack.callback(driver.terminate)
        line = next(one for one in driver.stdout if "successfully on port" in one)
        port = int(line.strip().rstrip(".").rpartition(" ")[2])
        root = f"http://127.0.0.1:{port}"
        arguments = [f"--{one}" for one in (*OPTIONS, f"user-data-dir={profile}")]
        wanted = {
            "goog:chromeOptions": {"binary": CHROMIUM, "args": arguments},
            "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
        }
        session = ask(f"{root}/session", {"capabilities": {"alwaysMatch": wanted}})
        base = f"{root}/session/{session['sessionId']}"
        stack.callback(ask, base, None, "DELETE")
        yield Browser(base)
