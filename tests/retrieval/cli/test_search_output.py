"""Forms of output, the prompt, and what a real terminal gets."""

import os
import re
import select
import signal
import stat
import subprocess
import sys
import tarfile
import time

import pytest

pty = pytest.importorskip("pty")  # not on Windows


@pytest.fixture
def photos(photo_folder, collection_of_words, tmp_path):
    seen = {"chelsea.png": "a cat", "rocket.jpg": "a rocket", "coffee.png": "a cup of coffee",
            "flower.jpg": "a flower", "astronaut.png": "an astronaut", "2019/beach/china.jpg": "a temple"}
    return collection_of_words(
        tmp_path / "photos.collection", {photo_folder / name: words for name, words in seen.items()})


class Terminal:
    """A command on a pseudo-terminal of 250 x 40 characters, so that no path is folded."""

    def __init__(self, *arguments, **environ):
        import fcntl
        import struct
        import termios

        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 250, 2500, 800))
        plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLORTERM", "COLUMNS")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "retrieval", *map(str, arguments)], stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, env={**plain, "PYTHONUTF8": "1", **environ},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which jobs in the background ignore
        )
        os.close(slave)
        self.shown = ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.master)

    def type(self, text):
        os.write(self.master, text.encode())

    def until(self, text):
        """What was shown up to the text, since the last time."""
        while text not in self.shown:
            read = self._read()
            assert read, f"{text!r} never came: {self.shown!r}"
            self.shown += read
        before, _, self.shown = self.shown.partition(text)
        return before

    def to_the_end(self):
        while read := self._read():
            self.shown += read
        return self.process.wait(60), self.shown

    def _read(self):
        ready, _, _ = select.select([self.master], [], [], 120)
        assert ready, f"nothing more comes after {self.shown!r}"
        try:
            return os.read(self.master, 65536).decode(errors="replace")
        except OSError:  # the other side is closed
            return ""


def test_kitty_gets_pictures_and_a_table(photos):
    with Terminal("search", photos, "a cat", "-k", 2, TERM="xterm-kitty") as terminal:
        status, shown = terminal.to_the_end()
    assert status == 0
    assert len(re.findall(r"\x1b7\x1b\[7A\x1b\[2C\x1b_Ga=T,f=100,q=2,C=1,(?:c=20|r=7),m=[01];iVBOR", shown)) == 2  # PNG
    assert "chelsea.png" in shown and "│" in shown and "▀" not in shown


def test_half_blocks_in_256_colours(photos):
    with Terminal("search", photos, "a cat", "-k", 1, TERM="xterm-256color") as terminal:
        status, shown = terminal.to_the_end()
    assert status == 0 and "\x1b_G" not in shown
    blocks = [line for line in shown.splitlines() if "▀" in line]
    assert len(blocks) == 7 and all(re.search(r"\x1b\[38;5;\d+;48;5;\d+m▀", line) for line in blocks[:-1])


@pytest.mark.parametrize(("options", "environ"), [
    (["--no-thumbnails"], {"TERM": "xterm-kitty"}),
    ([], {"TERM": "dumb"}),
    ([], {"TERM": "xterm-kitty", "NO_COLOR": "1"}),
])
def test_no_pictures_where_none_are_wanted(photos, options, environ):
    with Terminal("search", photos, "a cat", "-k", 1, *options, **environ) as terminal:
        status, shown = terminal.to_the_end()
    assert status == 0 and "chelsea.png" in re.sub(r"[│\s]", "", shown)
    assert not re.search("\x1b_G|▀|\x1bP", shown)


def test_thumbnails_that_cannot_be_are_no_silent_loss(photos):
    with Terminal("search", photos, "a cat", "--thumbnails", TERM="dumb") as terminal:
        status, shown = terminal.to_the_end()
    assert status == 2 and "--thumbnails needs a terminal with colours" in shown.replace("\r\n", " ")


def test_the_prompt(photos, photo_folder, tmp_path):
    with Terminal("search", photos, "-k", 1, "--no-thumbnails", TERM="xterm", RETRIEVAL_CACHE=str(tmp_path)) as terminal:
        terminal.until("search> ")
        terminal.type("a cat\n")
        assert "chelsea.png" in (answer := terminal.until("search> ")) and len(re.findall(r" [01]\.\d{4} ", answer)) == 1
        terminal.type(":k 2\n")
        terminal.until("search> ")
        terminal.type("a rocket\n")
        assert "rocket.jpg" in (answer := terminal.until("search> ")) and len(re.findall(r" [01]\.\d{4} ", answer)) == 2
        terminal.type("nothing.jpg\n")
        assert "Error: There is no image file nothing.jpg." in terminal.until("search> ")
        terminal.type(":help\n")
        assert ":k N " in terminal.until("search> ")
        terminal.type("\x1b[A\x1b[A\n")  # the last line but one, again
        assert "Error: There is no image file nothing.jpg." in terminal.until("search> ")
        terminal.type("\n")
        assert terminal.to_the_end()[0] == 0
    assert (tmp_path / "history").read_text().splitlines() == [
        "a cat", ":k 2", "a rocket", "nothing.jpg", ":help", "nothing.jpg"]
    with Terminal("search", photos, TERM="xterm", RETRIEVAL_CACHE=str(tmp_path)) as terminal:
        terminal.until("search> ")
        terminal.type("\x04")  # Ctrl-D
        assert terminal.to_the_end()[0] == 0


@pytest.mark.parametrize(("options", "said"), [
    (["--min-score", "0.999"], "Nothing scores high enough for 'a zebra'. See what comes nearest: leave out --min-score."),
    (["--where", "width > 100000"], "No image of {} passes the filter."),
])
def test_the_prompt_says_why_there_is_nothing(photos, options, said):
    with Terminal("search", photos, *options, TERM="dumb") as terminal:
        terminal.until("search> ")
        terminal.type("a zebra\n")
        terminal.until("a zebra\r\n")
        assert terminal.until("search> ") == f"{said.format(photos)}\r\n"


def test_an_interrupt_at_the_prompt_ends_it_with_130(photos):
    with Terminal("search", photos, TERM="dumb") as terminal:
        terminal.until("search> ")
        terminal.type("x")
        terminal.until("x")  # readline shows the prompt before it waits for anything, signals too
        time.sleep(0.5)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.to_the_end() == (130, "\r\nInterrupted.\r\n")


def test_without_a_query_and_without_a_terminal(run, photos):
    done = run("search", photos)
    assert (done.status, done.out) == (2, "") and "There is no query. Say what to look for, in quotes" in done.err


def test_paths_for_xargs(run, photos, photo_folder):
    done = run("search", photos, "a cat", "an animal", "-k", 6, "--paths")
    paths = done.out.splitlines()
    assert paths[0] == str(photo_folder / "chelsea.png") and len(paths) == len(set(paths)) == 6  # each once
    assert run("search", photos, "a cat", "an animal", "-k", 6, "--paths", "-0").out == "".join(f"{path}\0" for path in paths)


def test_paths_of_what_is_no_file_of_its_own(run, photo_folder, tmp_path, write_video, collection_of_words):
    video = write_video(tmp_path / "grey.mp4", [20] * 10 + [230] * 10)
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(photo_folder / "rocket.jpg", "rocket.jpg")
    path = collection_of_words(tmp_path / "mixed.collection", {
        f"{tmp_path}/photos.tar#rocket.jpg": "a rocket", f"{video}#t=0": "night", f"{video}#t=1": "day",
    })
    done = run("search", path, "a rocket", "--paths")
    assert done.out == f"{video}\n"  # two frames, one file
    assert done.err == f"Left out 1 that are no files of their own, such as {tmp_path}/photos.tar#rocket.jpg\n"
    done = run("search", path, "a rocket", "-k", 1, "--open")
    assert done.status == 1 and "is no file of its own. Open a contact sheet instead" in done.err


def test_the_contact_sheet(run, photos, tmp_path):
    sheet = tmp_path / "new" / "sheet.html"
    done = run("search", photos, "a cat", "a rocket", "-k", 2, "--html", sheet)
    assert [row[0] for row in done.rows] == ["query", "a cat", "a cat", "a rocket", "a rocket"]
    assert done.err == f"Contact sheet, to open in a browser: {sheet}\n"
    html = sheet.read_text()
    assert re.findall("<h2>(.*?)</h2>", html) == ["a cat", "a rocket"]
    assert html.count('src="data:image/jpeg;base64,') == 4 and "src=\"http" not in html


@pytest.fixture
def opener(tmp_path, monkeypatch):
    """An xdg-open that notes what it was given, and ends with the status that it is told."""
    def install(status):
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / ("open" if sys.platform == "darwin" else "xdg-open")
        program.write_text(f'#!/bin/sh\necho out\necho "$1" > {tmp_path}/opened\nexit {status}\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(folder))
        return tmp_path / "opened"

    return install


def test_opens_the_best_match_or_the_sheet(run, photos, photo_folder, tmp_path, opener):
    opened = opener(0)
    assert run("search", photos, "a cat", "--open").status == 0
    assert opened.read_text() == f"{photo_folder / 'chelsea.png'}\n"
    assert run("search", photos, "a cat", "--html", tmp_path / "sheet.html", "--open").status == 0
    assert opened.read_text() == f"{tmp_path / 'sheet.html'}\n"


def test_where_nothing_opens_files(run, photos, opener, monkeypatch):
    opener(3)
    done = run("search", photos, "a cat", "--open")
    assert done.status == 1 and "cannot open it (status 3). Open it yourself: " in done.err
    monkeypatch.setenv("PATH", "")
    done = run("search", photos, "a cat", "--open")
    assert done.status == 1 and done.err.startswith("Error: Nothing here opens files")


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["a cat", "-0"], "-0 is about --paths; give both."),
    (["a cat", "--paths", "--json"], "--paths and --json are two forms of output; choose one."),
    (["a cat", "--thumbnails"], "--thumbnails draws in the table on a terminal, and here is none."),
    (["--open"], "There is no query."),
])
def test_what_does_not_go_together(run, photos, arguments, sentence):
    done = run("search", photos, *arguments)
    assert (done.status, done.out) == (2, "") and sentence in done.err


def test_words_alone_load_no_torch(photos):
    """Half the built-in encoder answers, without the second that importing torch takes."""
    code = (
        "import sys; from retrieval.collection import Collection\n"
        "print(Collection.open(sys.argv[1]).search('a cat', 1)[0].id)\n"
        "print(sorted({'torch', 'open_clip', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(photos)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["chelsea.png", "[]"]
