from PIL import Image

from benchmarks.photos import PICTURES, many_photos, photos, picture


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


def test_of_many_photos_no_two_files_are_alike(tmp_path):
    files = sorted(many_photos(tmp_path, 32, 32, PICTURES + 2).iterdir())
    assert len({file.read_bytes() for file in files}) == len(files) == PICTURES + 2
    with Image.open(files[0]) as first, Image.open(files[PICTURES]) as again, Image.open(files[1]) as other:
        assert (first.format, first.size, first.info["comment"]) == ("JPEG", (32, 32), b"00000000")
        assert first.tobytes() == again.tobytes() != other.tobytes()
