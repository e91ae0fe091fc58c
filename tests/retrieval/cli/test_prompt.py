"""The loop of the prompt, with lines and answers of our own."""

import sys
from types import ModuleType

import pytest

from retrieval.cli import prompt


@pytest.fixture
def asked(monkeypatch):
    """Lines that the prompt asks: of a and b, the first is interrupted while it is answered."""
    lines = iter(["a", "b", ""])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    return []


@pytest.fixture
def start(asked):
    def answer(line, k):
        asked.append(line)
        if line == "a":
            raise KeyboardInterrupt

    return lambda: prompt.prompt(answer, None)


def test_an_interrupt_ends_the_query_and_not_the_prompt(start, asked, capsys):
    start()
    assert asked == ["a", "b"]
    assert capsys.readouterr().err.splitlines()[1:] == ["", "Interrupted."]


def test_an_interrupt_while_something_is_imported_ends_the_prompt(start, asked, monkeypatch):
    monkeypatch.setitem(sys.modules, "half_imported.part", ModuleType("half_imported.part"))
    with pytest.raises(KeyboardInterrupt):
        start()
    assert asked == ["a"]
