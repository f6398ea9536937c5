"""A headless Chromium, driven over two pipes by the DevTools protocol; needs no further package."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOUND = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe"),
    *("--disable-background-networking", "--disable-sync", "--disable-dev-shm-usage"),
    *("--disable-renderer-backgrounding", "--disable-background-timer-throttling"),
    *("--disable-backgrounding-occluded-windows", "--disable-hang-monitor"),
    *("--disable-extensions", "--disable-component-update", "--hide-scrollbars", "--mute-audio"),
)
PATIENCE = 60
"""Seconds for an answer."""


class Page:
    """One tab: what it is told, and what it said, asked for and threw in the meantime."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = send, receive
        self._buffer = b""
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        self._ended = False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.bringToFront")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            left = 0 if self._ended else max(0, end - time.monotonic())
            ready, _, _ = select.select([self._receive], [], [], left)
            found = os.read(self._receive, 1 << 20) if ready else b""
            self._ended = not found
            assert found, "the browser does not answer"
            self._buffer += found
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(
        self, script: str, path: Path, *, at: str = "", width: int = 1400, height: int = 1000
    ) -> None:
        """Open a file, and run a script in it when it has loaded."""
        self.resize(width, height)
        self.call("Page.navigate", url="about:blank")
        self.events.clear()
        self.call("Page.navigate", url=f"{path.resolve().as_uri()}{at}")
        self.until("document.readyState === 'complete'")
        self.run(script)

    def resize(self, width: int, height: int = 1000) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def dark(self, on: bool) -> None:
        feature = {"name": "prefers-color-scheme", "value": "dark" if on else "light"}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def run(self, script: str) -> Any:
        """Evaluate an expression; a promise is waited for."""
        done = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def until(self, condition: str) -> None:
        end = time.monotonic() + PATIENCE
        while not self.run(condition):
            assert time.monotonic() < end, condition
            time.sleep(0.02)

    def settle(self) -> None:
        """Wait until what was scrolled or resized is drawn."""
        self.run("new Promise((f) => requestAnimationFrame(() => requestAnimationFrame(f)))")

    def press(self, key: str) -> None:
        codes = {"ArrowRight": 39, "ArrowLeft": 37, "ArrowDown": 40, "ArrowUp": 38, "Tab": 9}
        codes |= {"Home": 36, "End": 35, "PageDown": 34, "PageUp": 33, "Escape": 27, " ": 32}
        text = {"text": key} if len(key) == 1 else {}
        code = {"key": key, "windowsVirtualKeyCode": codes.get(key, ord(key.upper()[0]))}
        self.call("Input.dispatchKeyEvent", type="keyDown", **code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **code)

    def point(self, selector: str, *, click: bool = False) -> None:
        """Move the pointer to the middle of an element, and click if that is wanted."""
        box = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        at = {"x": box[0], "y": box[1]}
        self.call("Input.dispatchMouseEvent", type="mouseMoved", **at)
        if click:
            for kind in ("mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)

    def picture(self) -> bytes:
        """Take a picture of what is in sight, a small one."""
        data = self.call("Page.captureScreenshot", format="webp", quality=15)["data"]
        return base64.b64decode(data)

    def said(self) -> list[dict[str, Any]]:
        """Return what the console has: errors, warnings, exceptions."""
        self.run("0")
        kinds = {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}
        return [each for each in self.events if each.get("method") in kinds]

    def requested(self) -> list[str]:
        """Return every address that was asked for since the page was opened."""
        self.run("0")
        asked = [each for each in self.events if each.get("method") == "Network.requestWillBeSent"]
        return [each["params"]["request"]["url"] for each in asked]


@contextlib.contextmanager
def chromium() -> Iterator[Page]:
    """Start a browser with a profile of its own, and give a tab of it."""
    (to_read, send), (receive, to_write) = os.pipe(), os.pipe()

    def pipes_at_3_and_4() -> None:
        source, target = (fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in (to_read, to_write))
        os.dup2(source, 3)
        os.dup2(target, 4)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [str(FOUND), *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=pipes_at_3_and_4,  # noqa: PLW1509 (no threads here)
            close_fds=False,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        try:
            yield Page(send, receive)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(send)
            os.close(receive)
