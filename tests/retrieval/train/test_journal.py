"""The log of a run, and what is drawn from it."""

from PIL import Image

from retrieval.train.journal import Epoch, Journal, Step, draw_curves, read

RECALLS = {direction: {"R@1": 10.0, "R@5": 40.0, "R@10": 60.0} for direction in ("text_to_image", "image_to_text")}


def step(number, loss=1.0):
    return Step(number, 1, loss, 0.07, 0.001, 0.5, 20.0)


def test_lines_as_they_were_said(tmp_path):
    said = []
    journal = Journal(tmp_path, on_step=said.append, on_epoch=said.append)
    journal.step(step(1, 2.5))
    journal.epoch(Epoch(1, 3, 2.0, 0.06, RECALLS))
    assert said == [step(1, 2.5), Epoch(1, 3, 2.0, 0.06, RECALLS)]
    assert read(tmp_path / "log.jsonl") == [
        {"step": 1, "epoch": 1, "loss": 2.5, "temperature": 0.07, "learning_rate": 0.001, "gradient": 0.5,
         "images_per_second": 20.0},
        {"epoch": 1, "step": 3, "loss": 2.0, "temperature": 0.06, "recalls": RECALLS},
    ]


def test_a_resumed_run_forgets_what_it_will_do_again(tmp_path):
    journal = Journal(tmp_path)
    for number in (1, 2, 3):
        journal.step(step(number))
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "ep')  # killed while it wrote
    Journal(tmp_path, resumed_at=2).step(step(3, 9.0))
    assert [(line["step"], line["loss"]) for line in read(tmp_path / "log.jsonl")] == [(1, 1.0), (2, 1.0), (3, 9.0)]
    Journal(tmp_path)  # a new run, a new log
    assert read(tmp_path / "log.jsonl") == []


def test_curves(tmp_path):
    journal = Journal(tmp_path)
    for number in range(1, 6):
        journal.step(step(number, 5.0 / number))
        journal.epoch(Epoch(number, number, 1.0, 0.07, RECALLS))
    blank = draw_curves_of(tmp_path / "empty")
    drawn = Image.open(draw_curves(tmp_path))
    assert drawn.format == "PNG" and drawn.size == (1200, 480)
    assert len(drawn.convert("RGB").getcolors(100_000)) > len(blank.convert("RGB").getcolors(100_000))


def draw_curves_of(folder):
    folder.mkdir()
    Journal(folder)
    return Image.open(draw_curves(folder))
