from PIL import Image

from benchmarks.photos import photos, picture


def test_photos_are_jpegs_of_the_size_asked_for(tmp_path):
    folder = photos(tmp_path, 96, 64, 3)
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == ["00000.jpg", "00001.jpg", "00002.jpg"]
    for file in files:
        with Image.open(file) as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (96, 64), "RGB")


def test_the_number_decides_what_is_on_a_picture():
    assert picture(96, 64, seed=1).tobytes() == picture(96, 64, seed=1).tobytes()
    assert picture(96, 64, seed=1).tobytes() != picture(96, 64, seed=2).tobytes()


def test_a_picture_is_as_large_on_disk_as_a_photo(tmp_path):
    """Between one and three bits a pixel: noise would have many more, a flat area hardly any."""
    picture(640, 480, seed=0).save(tmp_path / "one.jpg", quality=88)
    assert 1 < 8 * (tmp_path / "one.jpg").stat().st_size / (640 * 480) < 3
