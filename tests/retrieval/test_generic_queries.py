from retrieval.generic_queries import generic_queries


def test_a_thousand_different_ones_always_the_same():
    queries = generic_queries()
    assert len(queries) == len(set(queries)) == 1000
    assert queries == generic_queries()
    assert queries[:3] == ["climber", "bear", "staircase"]


def test_they_are_words_without_gaps():
    for query in generic_queries():
        assert "{" not in query and query == query.strip() and 1 <= len(query.split()) <= 12, query
        assert " a a" not in f" {query}" and " a e" not in f" {query}", query
