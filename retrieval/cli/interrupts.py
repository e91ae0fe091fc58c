"""Ctrl-C in two steps: the first asks to finish what is in hand, the second ends at once."""

from __future__ import annotations

import os
import signal
import threading


class Interrupts(threading.Event):
    """Within `with`, set by the first of these signals; the second one interrupts as usual.

    message  said on stderr at the first
    """

    def __init__(self, message: str, *signals: signal.Signals):
        super().__init__()
        self._message = message
        self._signals = signals or (signal.SIGINT,)

    def __enter__(self) -> Interrupts:
        self._before = {one: signal.signal(one, self._first) for one in self._signals}
        return self

    def __exit__(self, *_: object) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)

    def _first(self, *_: object) -> None:
        self.set()
        for one in self._signals:
            signal.signal(one, signal.default_int_handler)
        os.write(2, f"{self._message}\n".encode())  # print may be busy in the very same stream
