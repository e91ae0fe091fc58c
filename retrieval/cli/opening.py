"""Opening a file with the program that the desktop has for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import suppress

from retrieval.errors import RetrievalError

_FAILS_WITHIN = 1.0  # seconds; an opener that takes longer has a window to show


def open_on_desktop(place: str) -> None:
    """place: a file or a link. Raises RetrievalError where nothing can open it."""
    opener = shutil.which("open" if sys.platform == "darwin" else "explorer" if sys.platform == "win32" else "xdg-open")
    if opener is None:
        raise RetrievalError(f"Nothing here opens files: there is no xdg-open. Open it yourself: {place}")
    process = subprocess.Popen(
        [opener, place], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with suppress(subprocess.TimeoutExpired):
        status = process.wait(_FAILS_WITHIN)
        if status and sys.platform != "win32":  # explorer always says 1
            raise RetrievalError(f"{opener} cannot open it (status {status}). Open it yourself: {place}")
