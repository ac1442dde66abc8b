"""What is on the screen of a browser, and how to wait for it."""

import io
import time

import numpy as np
from PIL import Image


def wait_for(condition, seconds):
    """Return what `condition()` returns as soon as that is true, or at last."""
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def set_size(browser, width, height):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def look(frame):
    """Return what is on the screen where the frame is, uint8 [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(frame.screenshot_as_png)).convert("RGB"))


def moves(frame, seconds=4):
    """Return whether what is on the screen changes."""
    first = look(frame)
    return wait_for(lambda: not np.array_equal(first, look(frame)), seconds)
