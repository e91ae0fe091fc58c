"""Running commands in this process, as the shell would."""

from __future__ import annotations

import io
import json
import logging
import shutil
import sys
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        """Tab-separated stdout."""
        return [line.split("\t") for line in self.out.splitlines()]

    @property
    def objects(self) -> list[dict]:
        """JSON lines of stdout."""
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def own_logging():
    """Commands take over the loggers; other tests want them back."""
    loggers = [logging.getLogger(name) for name in ("retrieval", "indexes")]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture
def run(monkeypatch, capsys, own_logging):
    from retrieval.cli import main

    # bfloat16, where the machine has it, would blur comparisons with the fixtures' encoders
    monkeypatch.setenv("RETRIEVAL_PRECISION", "float32")

    def run(*arguments: object, stdin: str | bytes = b"") -> Done:
        monkeypatch.setattr(sys, "argv", ["retrieval", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin if isinstance(stdin, bytes) else stdin.encode()), "utf-8"))
        capsys.readouterr()
        try:
            main()
            status = 0
        except SystemExit as exit:
            status = exit.code or 0
        captured = capsys.readouterr()
        return Done(status, captured.out, captured.err)

    return run


@pytest.fixture
def collection(run, photo_folder, tiny_model, tmp_path):
    """A collection of the photo folder, made by the command."""
    path = tmp_path / "photos.collection"
    done = run("index", photo_folder, "-o", path, "--model", tiny_model)
    assert done.status == 0, done.err
    return path


@pytest.fixture(scope="session")
def demo_photos(tmp_path_factory, sample_photos):
    """A folder with the demo's 19 photos."""
    folder = tmp_path_factory.mktemp("demo") / "photos"
    folder.mkdir()
    for path in sample_photos:
        shutil.copyfile(path, folder / path.name)
    return folder
