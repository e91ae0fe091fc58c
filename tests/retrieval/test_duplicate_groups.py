import shutil

import pytest
from PIL import Image

from indexes.errors import VectorIndexError
from retrieval.collection import Collection
from retrieval.duplicate_groups import EXACT, NEAR, duplicate_groups
from retrieval.maintain import Options, index_sources


@pytest.fixture(scope="module")
def made(tmp_path_factory, sample_photos, builtin_encoder):
    """Six different photos; chelsea.png twice more, rocket.jpg also smaller and much compressed."""
    folder = tmp_path_factory.mktemp("made") / "photos"
    folder.mkdir()
    by_name = {path.name: path for path in sample_photos}
    for name in ("chelsea.png", "rocket.jpg", "coffee.png", "astronaut.png", "china.jpg", "flower.jpg"):
        shutil.copyfile(by_name[name], folder / name)
    for name in ("cat-1.png", "cat-2.png"):
        shutil.copyfile(by_name["chelsea.png"], folder / name)
    with Image.open(by_name["rocket.jpg"]) as rocket:
        rocket.save(folder / "rocket-poor.jpg", quality=60)
        rocket.resize((rocket.width // 2, rocket.height // 2)).save(folder / "rocket-half.png")
    path = folder.parent / "photos.collection"
    index_sources([folder], path, Options("builtin", "cpu", "float32"))
    return path


@pytest.fixture
def opened(made):
    with Collection.open(made) as collection:
        yield collection


def described(groups):
    return [(group.kind, [file.id for file in group.files]) for group in groups]


def test_exact_and_near_groups_with_the_best_first(opened, made):
    groups = duplicate_groups(opened, 0.9)
    assert sorted(described(groups)) == [
        (EXACT, ["cat-1.png", "cat-2.png", "chelsea.png"]),
        (NEAR, ["rocket.jpg", "rocket-poor.jpg", "rocket-half.png"]),
    ]
    near = next(group for group in groups if group.kind == NEAR)
    assert near.scores[0] == pytest.approx(1, abs=1e-6) and all(0.9 <= score < 0.9999 for score in near.scores[1:])
    whole, poor, half = near.files
    assert [(file.width, file.height) for file in (whole, poor, half)] == [(640, 427), (640, 427), (320, 213)]
    assert whole.size == (made.parent / "photos" / "rocket.jpg").stat().st_size > poor.size


def test_contents_alone(opened):
    assert described(duplicate_groups(opened, None)) == [(EXACT, ["cat-1.png", "cat-2.png", "chelsea.png"])]


def test_a_group_of_copies_and_a_near_one_is_near(opened, tmp_path, made):
    groups = duplicate_groups(opened, 0.01)  # everything is like something
    assert {kind for kind, _ in described(groups)} == {NEAR}
    assert max(len(group.files) for group in groups) > 3


def test_as_json(opened):
    (group,) = duplicate_groups(opened, None)
    record = group.as_json()
    assert record["kind"] == "exact"
    assert [(one["id"], one["best"], one["score"]) for one in record["images"]] == [
        ("cat-1.png", True, 1.0), ("cat-2.png", False, 1.0), ("chelsea.png", False, 1.0)
    ]
    assert record["images"][0].keys() == {"path", "id", "bytes", "width", "height", "score", "best"}


def test_a_threshold_out_of_range(opened):
    with pytest.raises(VectorIndexError, match="above 0"):
        duplicate_groups(opened, 1.5)


def test_nothing_is_written(opened, made):
    before = {path: path.stat().st_mtime_ns for path in made.parent.rglob("*")}
    duplicate_groups(opened, 0.9)
    assert {path: path.stat().st_mtime_ns for path in made.parent.rglob("*")} == before


def test_what_others_write_meanwhile(made, tmp_path, sample_photos):
    """Where they rebuilt the collection, rows have other numbers."""
    path = shutil.copytree(made, tmp_path / "photos.collection")
    photos = shutil.copytree(made.parent / "photos", tmp_path / "photos")
    how = Options("builtin", "cpu", "float32")
    with Collection.open(path) as opened:
        before = described(duplicate_groups(opened, 0.9))
        shutil.copyfile(photos / "flower.jpg", photos / "again.jpg")
        (photos / "coffee.png").unlink()
        index_sources([photos], path, how, rebuild=True)
        after = described(duplicate_groups(opened, 0.9))
    assert sorted(after) == sorted([*before, (EXACT, ["again.jpg", "flower.jpg"])])
