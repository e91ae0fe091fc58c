"""Is there any at all? Captions that name a subject, with all photos of that subject there and with none.

Of the Flickr8k test split (see `benchmarks.flickr8k`) each subject in turn is taken away: every photo with a
caption that names it. The captions that do are then asked of the whole split, where a match is there, and of what
is left, where none is: as many queries with as without. Precision is the share with a match among the queries
that are shown anything, recall the share shown anything among those with a match, rejected the share shown
nothing among those without, in percent; the ends of 95 % intervals are drawn over subjects. A subject can be
seen where no caption names it, so that some that count as wrongly shown are not wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import flickr8k
from benchmarks.case import Case, Contender, Measure, Metrics
from benchmarks.models import BUILTIN

SHOWN = ("precision_low", "precision_high", "recall", "recall_low", "recall_high", "rejected", "rejected_low", "rejected_high")
_LEAST = 10  # captions that a subject needs
# Things and places that many captions of the split name, each with its other words.
SUBJECTS = (
    r"horses?", r"bikes?|bicycles?|bicyclists?|cyclists?|bmx", r"snowboard\w*", r"skateboard\w*", r"surf\w*",
    r"swim\w*|pools?", r"guitars?", r"football", r"basketball", r"soccer", r"motorcycl\w*|motorbikes?", r"cars?|trucks?",
    r"boats?|kayak\w*|canoes?", r"climb\w*", r"beach\w*|ocean|sea", r"snow\w*|ski\w*|sled\w*", r"tennis", r"swing\w*",
    r"slides?", r"bubbles?", r"hats?", r"cameras?|photograph\w*", r"fountains?|sprinklers?", r"leash\w*|frisbees?",
    r"birds?|seagulls?", r"umbrellas?", r"tents?|camp\w*", r"bab(?:y|ies)|toddlers?", r"wheelchairs?", r"bench\w*",
)


def cases(quick: bool) -> list[Case]:
    subjects = 3 if quick else len(SUBJECTS)
    return [
        Case(
            name="a subject taken away",
            settings={"model": BUILTIN, "subjects": subjects},
            contenders={
                "--min-score auto": Contender(partial(told_apart, auto=True), ours=True),
                "always the best": Contender(partial(told_apart, auto=False)),
            },
            unit="precision", better="higher", warm_up=0, most_repeats=1,
        )
    ]


def told_apart(settings: Mapping[str, Any], work: Path, auto: bool) -> Measure:
    """auto: show what is likely meant; else something is always shown, as without a threshold."""
    from retrieval.collection import Collection

    source = flickr8k.source()
    captions = flickr8k.captions(source)
    path = flickr8k.collection(source, captions, work, settings["model"])

    def measure() -> Metrics:
        import numpy as np

        from retrieval.query import text_query

        with Collection.open(path, remember_queries=False) as opened:
            documents = opened.catalog.documents_of_rows(opened.indexed().live_rows().tolist())
            images = opened.vectors.take(np.array(list(documents), np.int64))  # (n, d)
            names = [Path(path).name for _, path in documents.values()]
            owners = np.array([place for place, name in enumerate(names) for _ in captions[name]])
            texts = [text for name in names for text in captions[name]]
            vectors = opened.query_vectors([text_query(text) for text in texts])
            encoder = opened.encoder_for(())
        there, gone, subjects = [], [], []
        for number, words in enumerate(SUBJECTS[: settings["subjects"]]):
            named = np.array([re.search(rf"\b(?:{words})\b", text, re.IGNORECASE) is not None for text in texts])
            if named.sum() < _LEAST:
                continue
            left = np.setdiff1d(np.arange(len(images)), owners[named])
            there.append(_shown(images, vectors[named], encoder, auto))
            gone.append(_shown(images[left], vectors[named], encoder, auto))
            subjects.append(np.full(int(named.sum()), number))
        return shares(*map(np.concatenate, (there, gone, subjects)))

    return measure


def _shown(images: Any, queries: Any, encoder: Any, auto: bool) -> Any:
    """Which queries (q, d) are shown anything: bool (q,)."""
    import numpy as np

    from indexes import exact_search
    from retrieval.rank.refinement import AUTO_RELEVANCE
    from retrieval.rank.relevance import relevance_model

    if not auto:
        return np.ones(len(queries), bool)
    best = exact_search(images, queries, 1).scores[:, 0]
    return relevance_model(partial(exact_search, images), encoder).of(best) >= AUTO_RELEVANCE


def shares(there: Any, gone: Any, subjects: Any) -> Metrics:
    """Of queries (q,): whether anything is shown with a match there, and without; and which subject each is of."""
    import numpy as np

    from retrieval.bootstrap import mean_intervals

    clusters = np.concatenate([subjects, subjects])
    matches, shown = np.repeat([True, False], len(there)), np.concatenate([there, gone])
    metrics: Metrics = {}
    for name, of, among in (("precision", matches, shown), ("recall", shown, matches), ("rejected", ~shown, ~matches)):
        values = np.where(among, of.astype(float), np.nan)
        low, high = mean_intervals(values, clusters=clusters)
        metrics |= {name: np.nanmean(values), f"{name}_low": low, f"{name}_high": high}
    return {name: round(100 * float(value), 1) for name, value in metrics.items()}
