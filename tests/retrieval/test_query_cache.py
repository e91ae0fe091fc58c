import gc
import sqlite3

import numpy as np
import pytest

from retrieval.query_cache import FILE_NAME, QueryCache


def cache(folder, space="a model", dim=3, most=None):
    return QueryCache(folder, space, dim, most=most)


def keep(one, vectors):
    one.put(vectors)
    one.close()


def vector(*values):
    return np.array(values, np.float32)


def test_what_was_put_is_got_again_bit_by_bit(tmp_path):
    one, other = cache(tmp_path), cache(tmp_path)
    key = one.key("text", "a dog")
    assert one.get([key]) == {}
    keep(one, {key: vector(0.1, -0.2, 1 / 3)})
    found = other.get([key, other.key("text", "a cat")])
    assert list(found) == [key]
    np.testing.assert_array_equal(found[key], vector(0.1, -0.2, 1 / 3))
    assert found[key].dtype == np.float32


def test_what_nobody_closes_is_closed_with_its_last_reference(tmp_path):
    one = cache(tmp_path)
    key = one.key("text", "a dog")
    keep(one, {key: vector(1, 2, 3)})
    one.get([key])
    reader = one._reader
    del one
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        reader.execute("SELECT 1")


def test_keys_tell_kind_content_and_space_apart(tmp_path):
    one = cache(tmp_path)
    keys = {
        one.key("text", "dog"), one.key("image", "dog"), one.key("text", "dog "), cache(tmp_path, "b").key("text", "dog"),
        cache(tmp_path, "a modeld").key("text", "og"), one.key("text", "\udc80"),
    }
    assert len(keys) == 6
    assert one.key("text", "dog") == one.key("text", b"dog")


def test_the_oldest_go(tmp_path):
    small = cache(tmp_path, most=3)
    keys = [small.key("text", str(number)) for number in range(5)]
    for number, key in enumerate(keys):
        keep(small, {key: vector(number, 0, 0)})
    keep(small, {keys[4]: vector(9, 9, 9)})  # is there already
    assert {keys.index(key): found[0] for key, found in small.get(keys).items()} == {2: 2, 3: 3, 4: 4}


def test_more_keys_than_sqlite_takes_variables(tmp_path):
    one = cache(tmp_path, dim=1)
    keys = [one.key("text", str(number)) for number in range(2500)]
    keep(one, {key: vector(number) for number, key in enumerate(keys)})
    assert [one.get(keys)[key][0] for key in keys[::500]] == [0, 500, 1000, 1500, 2000]


def test_vectors_of_another_length_are_not_taken(tmp_path):
    key = cache(tmp_path).key("text", "dog")
    keep(cache(tmp_path), {key: vector(1, 2, 3)})
    assert cache(tmp_path, dim=2).get([key]) == {}


def test_a_place_that_cannot_be_written_is_no_error(tmp_path):
    one = cache(tmp_path / "nowhere")
    key = one.key("text", "dog")
    keep(one, {key: vector(1, 2, 3)})
    assert one.get([key]) == {} and not (tmp_path / "nowhere").exists()
    (tmp_path / FILE_NAME).mkdir()
    keep(cache(tmp_path), {key: vector(1, 2, 3)})
    assert cache(tmp_path).get([key]) == {}


def test_another_writer_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("retrieval.query_cache._LOCK_SECONDS", 0.0)
    one = cache(tmp_path)
    first, second = one.key("text", "a"), one.key("text", "b")
    keep(one, {first: vector(1, 2, 3)})
    other = sqlite3.connect(tmp_path / FILE_NAME)
    other.execute("BEGIN EXCLUSIVE")
    keep(one, {second: vector(1, 2, 3)})
    assert one.get([first]) == {}
    other.rollback()
    other.close()
    assert set(one.get([first, second])) == {first}


def test_a_damaged_file_is_begun_anew(tmp_path):
    one = cache(tmp_path)
    key = one.key("text", "dog")
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 100)
    assert one.get([key]) == {}
    keep(one, {key: vector(1, 2, 3)})
    assert list(one.get([key])) == [key]


def test_what_is_not_written_yet_is_got_too(tmp_path, monkeypatch):
    monkeypatch.setattr("retrieval.query_cache._WRITTEN_AT_ONCE", 3)
    one = cache(tmp_path)
    keys = [one.key("text", str(number)) for number in range(3)]
    for number, key in enumerate(keys[:2]):
        one.put({key: vector(number, 0, 0)})
    assert set(one.get(keys)) == set(keys[:2]) and not (tmp_path / FILE_NAME).exists()
    one.put({keys[2]: vector(2, 0, 0)})
    assert set(cache(tmp_path).get(keys)) == set(keys)
