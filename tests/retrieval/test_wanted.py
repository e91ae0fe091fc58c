import re

import numpy as np
import pytest

from retrieval.errors import QueryError
from retrieval.wanted import AUTO, Refinement, Wanted


def test_nothing_asked_for_is_nothing():
    assert not Refinement() and Wanted() == Wanted(None) and not Wanted().refinement
    assert Wanted(3) != Wanted(3, calibrated=False) and Wanted(3) != Wanted(3, refinement=Refinement(dedup=0.9))


@pytest.mark.parametrize("one", [Refinement(AUTO), Refinement(0.0), Refinement(dedup=0), Refinement(diverse=0.0)])
def test_a_zero_is_something_asked_for(one):
    assert one


def test_true_is_what_the_options_mean_without_a_value():
    assert Refinement(dedup=True, diverse=True) == Refinement(dedup=0.93, diverse=0.7)
    assert Refinement(dedup=False, diverse=False) == Refinement() and not Refinement(dedup=False)


def test_numbers_of_numpy_are_numbers():
    assert Refinement(np.float32(0.25), np.float32(0.5), np.int64(1)) == Refinement(0.25, 0.5, 1.0)


@pytest.mark.parametrize(("values", "said"), [
    ({"min_score": "high"}, "min_score is 'high'; give a number from -1 to 1 or auto."),
    ({"min_score": 1.5}, "min_score is 1.5"),
    ({"dedup": float("nan")}, "dedup is nan; give a number from 0 to 1."),
    ({"diverse": -0.1}, "diverse is -0.1; give a number from 0 to 1."),
    ({"dedup": "auto"}, "dedup is 'auto'"),
    ({"min_score": True}, "min_score is True; give a number from -1 to 1 or auto."),
    ({"diverse": 1j}, "diverse is 1j"),
])
def test_values_out_of_range(values, said):
    with pytest.raises(QueryError, match=re.escape(said)):
        Refinement(**values)


@pytest.mark.parametrize(("words", "said"), [
    ({"templates": "ON"}, "templates is 'ON'; choose one of on, off, auto."),
    ({"fusion": "xx"}, "fusion is 'xx'; choose one of sum, product, slerp."),
    ({"within": "captions", "refinement": Refinement(0.2)}, "Captions are not reranked"),
])
def test_other_words(words, said):
    with pytest.raises(QueryError, match=re.escape(said)):
        Wanted(**words)
