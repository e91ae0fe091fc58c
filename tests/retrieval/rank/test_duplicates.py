import numpy as np
import pytest

from retrieval.images import open_image
from retrieval.rank.duplicates import Kept, Sets, collapse, same_contents
from retrieval.wanted import SAME_PICTURE

VECTORS = np.array([[1, 0], [0, 1], [0.96, 0.28], [0.6, 0.8], [0, 1]], np.float32)


def test_near_copies_join_the_first_they_are_like():
    # 2 is like 0 (0.96), 4 like 1 (1.0); 3 is unlike all kept (0.6, 0.8).
    assert collapse(VECTORS, list("abcde"), 0.95) == [Kept(0, 1), Kept(1, 1), Kept(3, 0)]
    assert collapse(VECTORS, list("abcde"), 0.8) == [Kept(0, 1), Kept(1, 2)]


def test_equal_contents_are_copies_whatever_their_vectors():
    assert collapse(VECTORS, list("aacda"), 1.0) == [Kept(0, 2), Kept(2, 0), Kept(3, 0)]


def test_unknown_contents_are_not_equal():
    assert len(collapse(VECTORS[:4], [None] * 4, 1.0)) == 4


def test_a_chain_does_not_swallow_what_is_unlike_its_beginning():
    steps = np.radians([0, 10, 20, 30])  # cosine of neighbours 0.985, of the ends 0.866
    vectors = np.stack([np.cos(steps), np.sin(steps)], 1)
    assert collapse(vectors, list("abcd"), 0.98) == [Kept(0, 1), Kept(2, 1)]


def test_nothing_to_collapse():
    assert collapse(VECTORS[:0], [], 0.9) == []


def members(sets):
    return [group.tolist() for group in sets.groups()]


def test_sets_join_in_chains_and_from_both_ends():
    sets = Sets(8)
    sets.join(np.array([6, 1, 2]), np.array([7, 2, 5]))
    assert members(sets) == [[1, 2, 5], [6, 7]]
    sets.join(np.array([5]), np.array([6]))
    sets.join(np.array([0, 0]), np.array([0, 0]))
    assert members(sets) == [[1, 2, 5, 6, 7]]


def test_sets_agree_with_walking_the_graph():
    random = np.random.default_rng(0)
    first, second = random.integers(0, 300, (2, 200))
    sets = Sets(300)
    for start in range(0, 200, 33):
        sets.join(first[start : start + 33], second[start : start + 33])
    neighbours = {node: set() for node in range(300)}
    for one, other in zip(first.tolist(), second.tolist()):
        neighbours[one].add(other)
        neighbours[other].add(one)
    walked, seen = [], set()
    for node in range(300):
        if node in seen:
            continue
        reached, front = {node}, [node]
        while front:
            for other in neighbours[front.pop()] - reached:
                reached.add(other)
                front.append(other)
        seen |= reached
        if len(reached) > 1:
            walked.append(sorted(reached))
    assert members(sets) == walked


def test_same_contents_pair_the_first_with_each_other():
    owners, others = same_contents(["x", "y", "x", None, "y", "x", None])
    assert list(zip(owners.tolist(), others.tolist())) == [(0, 2), (0, 5), (1, 4)]
    assert same_contents([])[0].dtype == np.int64


@pytest.mark.flickr8k
def test_the_default_tells_squashed_copies_from_different_photos(builtin_encoder, photos, flickr8k):
    """Twenty originals, and their copies of 224 x 224 in the test split."""
    import tarfile

    originals = sorted(photos.glob("*.jpg"))[:20]
    with tarfile.open(flickr8k / "test.tar") as archive:
        by_name = {member.name.rpartition("/")[2]: member for member in archive}
        copies = [open_image(archive.extractfile(by_name[path.name]).read())[0] for path in originals]
    whole = builtin_encoder.encode_images([open_image(path)[0] for path in originals])
    squashed = builtin_encoder.encode_images(copies)
    scores = whole @ squashed.T
    assert (np.diagonal(scores) >= SAME_PICTURE).mean() >= 0.9
    assert scores[~np.eye(20, dtype=bool)].max() < SAME_PICTURE - 0.05
