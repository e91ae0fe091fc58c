import pytest

from retrieval.corpus.names import resolve_names


@pytest.mark.parametrize(
    ("name", "document_id"),
    [
        ("2019/beach/a.jpg", "2019/beach/a.jpg"),
        ("a.jpg", "x/y/a.jpg"),
        ("val2014/a.jpg", "coco/val2014/a.jpg"),
        ("images/a.jpg", "a.jpg"),
        ("../data/images/a.jpg", "a.jpg"),
        ("../data/images/a.jpg", "images/a.jpg"),
        ("images/a.jpg", "photos/a.jpg"),
        ("/home/someone/photos/a.jpg", "photos/a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("images\\beach\\a.jpg", "beach/a.jpg"),
        ("1000_69", "1000_69.jpg"),
        ("beach/v1.2", "x/beach/v1.2.png"),
        ("../images/1000_69", "2019/1000_69.jpg"),
        ("caf\u00e9.jpg", "cafe\u0301.jpg"),  # composed here, decomposed as macOS stores it
    ],
)
def test_one_name_finds_one_document(name, document_id):
    assert resolve_names([name], ["other/b.jpg", document_id]) == ({name: 1}, set())


@pytest.mark.parametrize(
    ("name", "document_id"),
    [
        ("a.jpg", "xa.jpg"),  # whole components only
        ("a.jpg", "a.jpg/b.jpg"),  # the file name must be shared, not a folder
        ("a.png", "a.jpg"),
        ("a.jpg", "A.jpg"),
        (".", "a.jpg"),
    ],
)
def test_what_is_no_match(name, document_id):
    assert resolve_names([name], [document_id]) == ({}, set())


def test_the_same_path_beats_a_longer_one():
    assert resolve_names(["a.jpg"], ["x/a.jpg", "a.jpg"]) == ({"a.jpg": 1}, set())


def test_the_longest_shared_ending_wins():
    ids = ["a.jpg", "train/a.jpg", "val/a.jpg"]
    assert resolve_names(["coco/images/val/a.jpg"], ids) == ({"coco/images/val/a.jpg": 2}, set())


def test_an_id_that_is_all_of_the_ending_beats_one_in_another_folder():
    assert resolve_names(["images/a.jpg"], ["copies/a.jpg", "a.jpg"]) == ({"images/a.jpg": 1}, set())


def test_a_name_that_fits_two_documents_is_ambiguous():
    assert resolve_names(["a.jpg"], ["x/a.jpg", "y/a.jpg"]) == ({}, {"a.jpg"})
    assert resolve_names(["val/a.jpg"], ["x/val/a.jpg", "y/val/a.jpg", "z/a.jpg"]) == ({}, {"val/a.jpg"})
    assert resolve_names(["a"], ["a.jpg", "a.png"]) == ({}, {"a"})


def test_an_extension_settles_what_stems_would_leave_open():
    assert resolve_names(["a.png"], ["a.jpg", "a.png"]) == ({"a.png": 1}, set())


def test_of_two_names_for_one_document_the_closest_keeps_it():
    assert resolve_names(["train/1.jpg", "val/1.jpg"], ["coco/val/1.jpg"]) == ({"val/1.jpg": 0}, set())
    assert resolve_names(["images/1.jpg", "1.jpg"], ["1.jpg"]) == ({"1.jpg": 0}, set())
    assert resolve_names(["1", "1.jpg"], ["1.jpg"]) == ({"1.jpg": 0}, set())


def test_two_names_equally_close_to_one_document_are_ambiguous():
    names = ["cats/1.jpg", "dogs/1.jpg"]
    assert resolve_names(names, ["1.jpg"]) == ({}, set(names))


def test_two_spellings_of_one_path_are_one_name():
    assert resolve_names(["x/a.jpg", "./x/a.jpg", "x\\a.jpg"], ["x/a.jpg"])[0] == {
        "x/a.jpg": 0,
        "./x/a.jpg": 0,
        "x\\a.jpg": 0,
    }


def test_one_file_name_in_every_folder_is_resolved_in_one_pass():
    # Comparing each name with each id of the same file name would be 4e8 comparisons here.
    ids = [f"{folder:05}/image.jpg" for folder in range(20_000)]
    positions, ambiguous = resolve_names([f"photos/{document_id}" for document_id in ids], ids)
    assert list(positions.values()) == list(range(20_000))
    assert ambiguous == set()


def test_nothing_at_all():
    assert resolve_names([], ["a.jpg"]) == ({}, set())
    assert resolve_names(["a.jpg"], []) == ({}, set())
