from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from indexes.errors import SpecError
from indexes.spec import IndexSpec


def test_defaults_are_exact_search() -> None:
    assert IndexSpec() == IndexSpec("Flat", "inner_product", None, None, 0)


def test_a_spec_cannot_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        IndexSpec().factory = "HNSW32"  # type: ignore[misc]


def test_a_spec_survives_json() -> None:
    spec = IndexSpec("IVF256_HNSW32,SQfp16", nprobe=8, ef_search=64, seed=3, refine=5)
    assert spec.to_dict() == {
        "factory": "IVF256_HNSW32,SQfp16",
        "metric": "inner_product",
        "nprobe": 8,
        "ef_search": 64,
        "seed": 3,
        "refine": 5,
    }
    assert IndexSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_missing_keys_take_their_defaults() -> None:
    assert IndexSpec.from_dict({"factory": "SQ8"}) == IndexSpec("SQ8")


def test_unknown_keys_are_named() -> None:
    with pytest.raises(SpecError, match="has no efSearch, probes; it has factory, metric, nprobe"):
        IndexSpec.from_dict({"factory": "Flat", "probes": 3, "efSearch": 1})


def test_from_dict_takes_a_mapping_only() -> None:
    with pytest.raises(SpecError, match="must be a mapping, got list"):
        IndexSpec.from_dict(["Flat"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"factory": 3}, "factory must be a string, got 3"),
        ({"metric": None}, "metric must be a string, got None"),
        ({"metric": "l2"}, 'metric "l2" is not supported; use "inner_product"'),
        ({"nprobe": 0}, "nprobe must be a whole number of at least 1, or None, got 0"),
        ({"nprobe": "8"}, "nprobe must be a whole number of at least 1, or None, got '8'"),
        ({"nprobe": True}, "nprobe must be .* got True"),
        ({"ef_search": -1}, "ef_search must be a whole number of at least 1, or None, got -1"),
        ({"ef_search": 2.5}, "ef_search must be .* got 2.5"),
        ({"refine": 0}, "refine must be a whole number of at least 1, or None, got 0"),
        ({"refine": True}, "refine must be .* got True"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"seed": None}, "seed must be a whole number of at least 0, got None"),
    ],
)
def test_wrong_values_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        IndexSpec.from_dict(fields)


@pytest.mark.parametrize(
    "spec",
    [
        IndexSpec(),
        IndexSpec("SQfp16"),
        IndexSpec("IVF16,Flat", nprobe=4),
        IndexSpec("HNSW32", ef_search=64),
        IndexSpec("IVF16_HNSW8,Flat", nprobe=4, ef_search=64),
        IndexSpec("OPQ8,IVF16,PQ8,RFlat", nprobe=4),
    ],
)
def test_valid_specs_build_an_empty_index(spec: IndexSpec) -> None:
    spec.validate(64)
    index = spec.empty_index(64)
    assert (index.d, index.ntotal, index.metric_type) == (64, 0, 0)  # 0 is inner product


@pytest.mark.parametrize("factory", ["", "flat", "Flatt", "IVF16", "IVF99999999999,Flat", "PCA32"])
def test_what_faiss_cannot_parse_is_quoted_with_examples(factory: str) -> None:
    with pytest.raises(SpecError) as caught:
        IndexSpec(factory).validate(64)
    message = str(caught.value)
    assert message.startswith(f'"{factory}" is not a FAISS factory string. Examples: "Flat"')
    assert '"SQfp16"' in message and '"IVF256,Flat"' in message and '"HNSW32"' in message
    assert ".cpp" not in message


@pytest.mark.parametrize("factory", ["PQ7", "IVF16,PQ7", "PQ7x4fs"])
def test_parts_that_do_not_divide_the_dimension(factory: str) -> None:
    with pytest.raises(SpecError, match=f'"{factory}" cuts each vector .* that divides 64'):
        IndexSpec(factory).validate(64)


@pytest.mark.parametrize("factory", ["LSH", "IMI2x4,Flat", "IVF16,PQ8+4", "HNSW32_PQ8"])
def test_what_cannot_rank_by_inner_product(factory: str) -> None:
    with pytest.raises(SpecError, match="cannot rank by inner product") as caught:
        IndexSpec(factory).validate(64)
    assert f'"{factory}"' in str(caught.value)


@pytest.mark.parametrize(
    "factory",
    ["IVF16,LSQ4x4fs", "IVF16,PRQ2x2x4fs_32", "IVF16,RQ4x4fs", "IVF16,PLSQ2x2x4fs", "PCA32,IVF16,RQ4x4fs,RFlat"],
)
def test_lists_that_cannot_be_told_how_many_to_visit(factory: str) -> None:
    with pytest.raises(SpecError, match=f'"{factory}" takes no nprobe .* Leave "fs" out, or take PQ'):
        IndexSpec(factory).validate(64)


@pytest.mark.parametrize("factory", ["LSQ4x4fs", "IVF16,LSQ4x4", "IVF16,PRQ2x2x4", "IVF16,PQ16x4fs", "IVF16,RaBitQfs"])
def test_what_it_is_told_to_take_instead(factory: str) -> None:
    IndexSpec(factory).validate(64)


@pytest.mark.parametrize("factory", ["IVF0,Flat", "HNSW0", "HNSW1", "RQ0x8", "IVF16_HNSW0,Flat"])
def test_counts_that_make_faiss_crash(factory: str) -> None:
    with pytest.raises(SpecError, match=f'"{factory}" asks for too few'):
        IndexSpec(factory).validate(64)


@pytest.mark.parametrize("factory", ["HNSW10", "IVF100,Flat", "HNSW16"])
def test_counts_that_only_look_like_those(factory: str) -> None:
    IndexSpec(factory).validate(64)


@pytest.mark.parametrize("factory", ["IDMap,Flat", "IDMap2,Flat", "Flat,IDMap"])
def test_an_id_map_is_ours_to_add(factory: str) -> None:
    with pytest.raises(SpecError, match="leave it out and pass rows= to build_index"):
        IndexSpec(factory).validate(64)


@pytest.mark.parametrize("factory", ["Flat", "SQ8", "HNSW32"])
def test_nprobe_where_there_are_no_lists(factory: str) -> None:
    with pytest.raises(SpecError, match=f'nprobe=4 means nothing to "{factory}"'):
        IndexSpec(factory, nprobe=4).validate(64)


@pytest.mark.parametrize("factory", ["Flat", "IVF16,Flat", "NSG16"])
def test_ef_search_where_there_is_no_graph(factory: str) -> None:
    with pytest.raises(SpecError, match=f'ef_search=4 means nothing to "{factory}"'):
        IndexSpec(factory, ef_search=4).validate(64)
