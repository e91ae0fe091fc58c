import pytest

from retrieval.errors import ImageError
from retrieval.images.limits import MAX_MEGAPIXELS, megapixels_of_environment, refuse_bombs


def test_the_limit_itself_is_allowed():
    refuse_bombs((1000, 2000), 2)
    with pytest.raises(ImageError, match=r"^larger than 2 megapixels \(1000 x 2001\); .* RETRIEVAL_MAX_MEGAPIXELS$"):
        refuse_bombs((1000, 2001), 2)


def test_the_environment_moves_it(monkeypatch):
    assert megapixels_of_environment() == MAX_MEGAPIXELS
    monkeypatch.setenv("RETRIEVAL_MAX_MEGAPIXELS", "0.5")
    assert megapixels_of_environment() == 0.5
    monkeypatch.setenv("RETRIEVAL_MAX_MEGAPIXELS", "-1")
    with pytest.raises(ImageError, match="'-1'; set it to a number such as 500"):
        megapixels_of_environment()
