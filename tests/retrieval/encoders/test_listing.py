"""What `retrieval models` lists."""

import open_clip

from retrieval.encoders.auto import RECOMMENDED
from retrieval.encoders.listing import listed


def test_built_in_and_recommended_come_first():
    rows = listed()
    assert [row["name"] for row in rows[:3]] == ["builtin", RECOMMENDED, "builtin-multilingual"]
    assert rows[0]["here"] is True and "research only" in rows[0]["note"]
    assert len(rows) == 2 + len(open_clip.list_pretrained())


def test_filter_ignores_case_and_defaults_are_unique():
    rows = listed("SIGLIP2-256")
    assert {row["name"].split("-SigLIP2-256")[0] for row in rows} >= {"ViT-B-32", "ViT-B-16", "ViT-L-16"}
    assert all("SigLIP2-256/" in row["name"] for row in rows)
    rows = [row for row in listed() if row["name"].startswith("ViT-B-32/")]
    assert [row["name"] for row in rows if row["default"]] == ["ViT-B-32/laion2b_s34b_b79k"]
    assert listed("no such model") == []
