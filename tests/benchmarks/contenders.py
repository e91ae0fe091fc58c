"""Contenders that a process of its own can import: what test_worker.py sends there."""

import os

import numpy as np

from benchmarks.case import LeftOut


def counting(settings, work):
    """Counts its rounds, which shows that it is prepared once."""
    rounds = []

    def measure():
        rounds.append(1)
        return {"rounds": len(rounds), "start": settings["start"], "process": os.getpid()}

    return measure


def allocating(settings, work):
    """Lets 200 MiB go before it is measured, and holds `mib` while it is."""
    np.ones(200 * 2**17)

    def measure():
        held = np.ones(settings["mib"] * 2**17)
        return {"sum": float(held[:2].sum())}

    return measure


def cpus(settings, work):
    return lambda: {"cpus": len(os.sched_getaffinity(0))}


def chatty(settings, work):
    def measure():
        print("not a result", flush=True)
        return {"seconds": 1.0}

    return measure


def absent(settings, work):
    raise LeftOut("there is no such device")


def broken(settings, work):
    def measure():
        raise ValueError("seven is not a colour")

    return measure


def dying(settings, work):
    return lambda: os._exit(9)
