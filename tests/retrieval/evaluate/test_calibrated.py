import numpy as np
import pytest

from retrieval.calibration import Calibration, text_hash
from retrieval.corpus.layouts import Caption
from retrieval.errors import CaptionsError
from retrieval.evaluate.calibrated import told_calibration

IMAGES = {"east.png": 0, "north.png": 90}
# cos 40 = 0.766 to the east, cos 50 = 0.643 to the north
ASKED = {Caption("north.png", "rather north"): 40, Caption("east.png", "east"): 0}


def test_text_to_image_less_the_bias(compared):
    found = compared(IMAGES, ASKED, biases=np.array([0.2, 0], np.float32))
    (calibrated,) = found.calibrated
    assert found.text_to_image.ranks.ranks.tolist() == [2, 1]
    assert calibrated.ranks.ranks.tolist() == [1, 1]
    assert calibrated.direction == "text_to_image" and calibrated.estimates["R@1"].value == 1.0
    assert found.text_to_image.estimates["R@1"].value == 0.5
    assert found.to_json()["calibrated"][0]["metrics"]["R@1"][0] == 1.0


def test_image_to_text_and_the_rest_are_as_without(compared):
    plain, found = compared(IMAGES, ASKED), compared(IMAGES, ASKED, biases=np.array([0.2, 0], np.float32))
    assert plain.calibrated == []
    for before, after in zip(plain.directions, found.directions):
        assert before.ranks.ranks.tolist() == after.ranks.ranks.tolist()
    assert plain.r_sums == found.r_sums


def calibration(*texts):
    hashes = np.array([text_hash(text) for text in texts], np.int64)
    return Calibration(np.ones((len(texts), 1), np.float16), hashes, 0.5, 16, "some captions")


def test_captions_that_are_references_cannot_measure(compared):
    task = compared(IMAGES, ASKED).task
    with pytest.raises(CaptionsError, match="1 of the 2 captions are among the references that us is .* --no-calib"):
        told_calibration(calibration("a dog", "EAST"), "us", task)


def test_what_is_said_of_it(compared):
    task = compared(IMAGES, {Caption("east.png", f"towards {at}"): at for at in range(100)}).task
    assert told_calibration(None, "us", task) == []
    (said,) = told_calibration(calibration("a dog", "a cat"), "us", task)
    assert "0.5 times its mean over the nearest 16 of 2 reference captions is taken (some captions)" in said
    (said,) = told_calibration(calibration("a dog", "towards 7"), "us", task)
    assert "(some captions; 1 of the captions asked are among them)" in said
