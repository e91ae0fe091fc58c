"""Two real processes on one batch do what one does alone."""

import json
import os
import runpy
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from retrieval.errors import TrainingError
from retrieval.train.processes import Processes, start

ROOT = Path(__file__).parents[3]
PROGRAM = Path(__file__).with_name("split_batch.py")
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def steps() -> list[dict]:
    """What comes of the step in split_batch.py: alone, then in the first and the second of two processes."""
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    rendezvous = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "PYTHONPATH": str(ROOT)}
    running = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM)], env={**clean, **rendezvous, "RANK": rank, "LOCAL_RANK": rank}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for rank in "01"
    ]
    try:
        printed = [one.communicate(timeout=100) for one in running]
    finally:
        for one in running:
            one.kill()  # where one failed the other would wait for it
    assert [one.returncode for one in running] == [0, 0], [errors for _, errors in printed]
    return [runpy.run_path(str(PROGRAM))["step"](), *(json.loads(output.splitlines()[-1]) for output, _ in printed)]


@pytest.mark.parametrize("way", ["whole", "cached"])
def test_gradients_of_a_split_batch_are_those_of_the_whole(steps, way):
    alone, *two = (step[way] for step in steps)
    assert set(alone["gradients"]) == {
        f"{tower}.{layer}.{kind}" for tower in ("image", "text") for layer in (0, 2) for kind in ("weight", "bias")
    } | {"scale", "bias"}
    for step in two:
        assert step["loss"] == pytest.approx(alone["loss"], abs=1e-12)
        assert set(step["gradients"]) == set(alone["gradients"])
        for name, gradient in alone["gradients"].items():
            assert max(map(abs, gradient)) > 1e-3, name
            exact = 1e-6 if name in ("scale", "bias") else 1e-12  # those are float32
            assert step["gradients"][name] == pytest.approx(gradient, rel=exact, abs=exact), name


def test_what_the_first_one_has_is_handed_out(steps):
    alone, first, second = steps
    assert first["before"] == first["after"] == second["after"] == alone["after"]
    assert second["before"] != second["after"]
    assert second["mean"] == first["mean"] == alone["mean"]  # a buffer
    assert [step["said"] for step in steps] == ["by 0"] * 3
    assert [step["first"] for step in steps] == [True, True, False]


def test_they_take_turns(steps):
    _, first, second = steps
    assert first["turn"][1] <= second["turn"][0]  # one clock for all processes


def test_gathering_joins_parts_of_different_lengths(steps):
    alone, first, second = steps
    assert first["owners"] == second["owners"] == alone["owners"] == [0, 0, 0, 1, 1, 2, 3, 3, 4, 5, 6, 7, 7]
    assert first["joined"] == second["joined"] == [[1, 1, 1], [1, 1, 1], [2, 2, 2]]
    assert alone["joined"] == [[1, 1, 1], [1, 1, 1]]


def test_the_sum_of_all_gradients_comes_back(steps):
    alone, first, second = steps
    assert alone["come back"] == [[1, 1, 1]] * 2
    assert first["come back"] == [[1 + 2] * 3] * 2
    assert second["come back"] == [[(1 + 2) * 2] * 3]  # its rows were doubled


def test_one_process_of_a_machine_writes_while_the_others_wait(monkeypatch):
    """Four on two machines, as threads: the second machine's first may have to write what the others read."""
    all_here = threading.Barrier(4, timeout=30)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: all_here.wait())
    running, at_once, order = set(), [], []

    def run(one):
        with one.in_turn():
            running.add(one.rank)
            time.sleep(0.02)
            at_once.append(set(running))
            order.append(one.rank)
            running.discard(one.rank)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, [Processes(3, 4, 1), Processes(2, 4, 0), Processes(1, 4, 1), Processes(0, 4, 0)]))
    assert order[:2] == [0, 2] and set(order[2:]) == {1, 3}
    assert at_once[:2] == [{0}, {2}]
    with Processes().in_turn():  # alone: nobody to wait for
        pass


@pytest.fixture
def environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return lambda **values: [monkeypatch.setenv(name, value) for name, value in values.items()]


def test_alone_without_torchrun(environment):
    assert start() == Processes(rank=0, world=1, device_index=0)
    environment(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
    assert start() == Processes()
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is two, where .* a number"),
        ({"WORLD_SIZE": "2"}, "RANK is not set, where .*torchrun"),
        ({"WORLD_SIZE": "2", "RANK": "1"}, "LOCAL_RANK is not set"),
        ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}, "Process 1 of 2 cannot join the others: .*MASTER_ADDR"),
    ],
)
def test_a_broken_environment(environment, values, message):
    environment(**values)
    with pytest.raises(TrainingError, match=message):
        start("cpu")


def test_more_processes_than_gpus(environment, monkeypatch):
    environment(WORLD_SIZE="2", RANK="1", LOCAL_RANK="1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(TrainingError, match="Process 1 of this machine has no GPU of its own; there are 1"):
        start()


def test_the_others_wait_longer_than_frozen_towers_take(environment, monkeypatch):
    asked = {}
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_, **options: asked.update(options))
    environment(WORLD_SIZE="2", RANK="1", LOCAL_RANK="1")
    assert start("cpu") == Processes(rank=1, world=2, device_index=1)
    assert (asked["rank"], asked["world_size"], asked["timeout"]) == (1, 2, timedelta(days=1))
