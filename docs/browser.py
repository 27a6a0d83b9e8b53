"""A browser that looks at pages: headless Chromium, driven by its DevTools protocol over a web socket.

It notes what a person would not see: errors of the console, hosts that a page asks, faults of accessibility (axe-core).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
)
START_S, ANSWER_S, LOAD_S = 30.0, 60.0, 60.0
QUIET_S = 0.7  # without a request under way, after which a page has come to rest
LINGERS_S = 5.0  # without news of any request: one that is still under way then is one that never ends
LARGEST_MESSAGE = 2**26
AXE_VERSION = "4.14.1"
SERIOUS = ("serious", "critical")

Params = Mapping[str, Any]


class BrowserError(RuntimeError):
    """The browser did not do what it was asked for."""


class Browser:
    """Chromium, from `browser`; each look is a tab of its own."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._asked = 0
        self._listeners: dict[str, Callable[[str, Params], None]] = {}

    def ask(self, method: str, params: Params | None = None, session: str | None = None) -> dict[str, Any]:
        """Call a method of the protocol; what comes meanwhile goes to the tabs."""
        self._asked += 1
        message = {"id": self._asked, "method": method, "params": dict(params or {})}
        self._socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        until = time.monotonic() + ANSWER_S
        while (answer := self._next(until - time.monotonic())).get("id") != self._asked:
            if time.monotonic() > until:
                raise BrowserError(f"{method}: no answer within {ANSWER_S:g} s")
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error'].get('message')}")
        result: dict[str, Any] = answer["result"]
        return result

    def listen(self, seconds: float) -> None:
        """Take what comes within so many seconds."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._next(left)

    def _next(self, seconds: float) -> dict[str, Any]:
        try:
            message: dict[str, Any] = json.loads(self._socket.recv(timeout=max(seconds, 0.001)))
        except TimeoutError:
            return {}
        listener = self._listeners.get(message.get("sessionId", ""))
        if "method" in message and listener is not None:
            listener(message["method"], message["params"])
        return message

    @contextmanager
    def tab(self, width: int, height: int, *, is_dark: bool = False) -> Iterator[Tab]:
        """A tab of so many pixels, with cookies of its own."""
        context = self.ask("Target.createBrowserContext")["browserContextId"]
        target = self.ask("Target.createTarget", {"url": "about:blank", "browserContextId": context})["targetId"]
        session = self.ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        tab = Tab(self, session)
        self._listeners[session] = tab.heard
        for domain in ("Page", "Runtime", "Network", "Log"):
            tab.ask(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        tab.ask("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        tab.ask("Emulation.setEmulatedMedia", {"features": [scheme]})
        try:
            yield tab
        finally:
            del self._listeners[session]
            self.ask("Target.disposeBrowserContext", {"browserContextId": context})


class Tab:
    """A page that is looked at. `errors`: of the console and of scripts. `hosts`: that were asked for anything."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session
        self._is_loaded, self._under_way, self._last_request = False, set[str](), 0.0
        self.errors: list[str] = []
        self.hosts: set[str] = set()

    def ask(self, method: str, params: Params | None = None) -> dict[str, Any]:
        return self._browser.ask(method, params, self._session)

    def heard(self, method: str, params: Params) -> None:
        """Take an event of the protocol."""
        match method:
            case "Page.loadEventFired":
                self._is_loaded = True
            case "Network.requestWillBeSent":
                address = urlsplit(params["request"]["url"])
                if address.scheme in ("http", "https", "ws", "wss"):
                    self.hosts.add(address.netloc)
                    self._under_way.add(params["requestId"])
                    self._last_request = time.monotonic()
            case "Network.loadingFinished" | "Network.loadingFailed":
                self._under_way.discard(params["requestId"])
                self._last_request = time.monotonic()
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description") or details["text"])
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "assert"):
                self.errors.append(" ".join(str(part.get("value", part.get("description"))) for part in params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                entry = params["entry"]
                self.errors.append(f"{entry['text']} {entry.get('url', '')}".strip())

    def cookie(self, address: str, name: str, value: str) -> None:
        self.ask("Network.setCookie", {"url": address, "name": name, "value": value})

    def log_in(self, user: str, password: str) -> None:
        """Send a login, as HTTP knows it, with each request."""
        login = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.ask("Network.setExtraHTTPHeaders", {"headers": {"Authorization": f"Basic {login}"}})

    def open(self, address: str, until: str = "true") -> None:
        """Go to an address, and wait until it has come to rest and `until`, an expression of JavaScript, holds.

        Raises:
            BrowserError: it cannot be reached, or does not come so far.
        """
        self._is_loaded = False
        failure = self.ask("Page.navigate", {"url": address}).get("errorText")
        if failure:
            raise BrowserError(f"{address}: {failure}")
        deadline = time.monotonic() + LOAD_S
        while time.monotonic() < deadline:
            self._browser.listen(0.1)
            waits = LINGERS_S if self._under_way else QUIET_S
            is_quiet = time.monotonic() - self._last_request > waits
            if self._is_loaded and is_quiet and self.evaluate(f"Boolean({until})"):
                return
        raise BrowserError(f"{address}: not there within {LOAD_S:g} s (waited for {until})")

    def evaluate(self, expression: str) -> Any:
        """What an expression of JavaScript gives, as JSON."""
        asked = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        answer = self.ask("Runtime.evaluate", asked)
        if "exceptionDetails" in answer:
            thrown = answer["exceptionDetails"].get("exception", {}).get("description")
            raise BrowserError(f"{expression[:80]}: {thrown}")
        return answer["result"].get("value")

    def picture(self, *, is_whole: bool = False) -> bytes:
        """A PNG of what is seen, or of the whole page."""
        shot = self.ask("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": is_whole})
        return base64.b64decode(shot["data"])

    def faults(self, axe: str) -> list[str]:
        """What axe-core, whose source is `axe`, calls serious or critical, a line each."""
        self.evaluate(f"{axe}; true")
        violations = self.evaluate("axe.run(document, {resultTypes: ['violations']}).then(run => run.violations)")
        return [
            f"{fault['id']}: {fault['help']} ({len(fault['nodes'])}, such as {fault['nodes'][0]['html'][:120]})"
            for fault in violations
            if fault["impact"] in SERIOUS
        ]


def installed() -> str | None:
    """The browser that there is."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def browser() -> Iterator[Browser]:
    """Headless Chromium with a profile of its own; the variable CHROMIUM names another than the first that is found.

    Raises:
        BrowserError: there is none, or it does not start.
    """
    program = installed()
    if program is None:
        raise BrowserError("there is no Chromium: on Debian `apt-get install chromium`, or set CHROMIUM")
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # Chromium's sandbox refuses root, as which CI runs; the pages are ours.
        flags = [*FLAGS, f"--user-data-dir={profile}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        process = subprocess.Popen([program, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            # Its logins and pages stay on this machine, whatever proxy there is.
            with connect(_address(Path(profile), process), proxy=None, max_size=LARGEST_MESSAGE) as socket:
                yield Browser(socket)
        finally:
            process.terminate()
            process.wait(START_S)


def _address(profile: Path, process: subprocess.Popen[bytes]) -> str:
    """Where the browser listens, which it writes down once it does."""
    file, until = profile / "DevToolsActivePort", time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        lines = file.read_text().split() if file.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.05)
    raise BrowserError(f"Chromium did not start within {START_S:g} s")


def fetched_axe(folder: Path) -> str:
    """The source of axe-core, from the npm registry."""
    subprocess.run(
        ["npm", "install", "--silent", "--no-save", "--prefix", str(folder), f"axe-core@{AXE_VERSION}"], check=True
    )
    return (folder / "node_modules/axe-core/axe.min.js").read_text()
