"""What is done with the images that an index finds before they are shown.

    rerank     in the order of a larger encoder, or of a cross-encoder
    relevance  how likely each one is meant at all; those that are not are left out
    duplicates the same picture once
    diversity  not five of a kind before the first of another

Pure functions over scores, rows and vectors, but for `rerank`, which looks at pictures again.
"""
