"""retrieval compress, from the words of a user to a model that indexes."""

import json

import pytest


def test_compressed_and_indexed_with(run, demo_photos, tiny_model, tmp_path):
    small, captions = tmp_path / "small", tmp_path / "captions.csv"
    captions.write_text("image,caption\n" + "".join(f"{path.name},{path.stem}\n" for path in demo_photos.iterdir()))
    done = run("compress", tiny_model, "-o", small, "--images", demo_photos, "--captions", captions, "--json")
    assert done.status == 0, done.err
    [facts] = done.objects
    assert (facts["model"], facts["photos"]) == (str(small), 19)
    assert 0.99 < facts["loss"]["min_cosine"] <= facts["loss"]["mean_cosine"] <= 1.00001
    assert facts["bytes_after"] == (small / "int8.safetensors").stat().st_size < 0.27 * facts["bytes_before"]
    done = run("index", demo_photos, "--model", small, "-o", tmp_path / "a.collection", "--json")
    assert done.status == 0, done.err
    assert json.loads((tmp_path / "a.collection" / "manifest.json").read_text())["encoder"]["fingerprint"] == facts["fingerprint"]


def test_in_words(run, tiny_model, tmp_path):
    done = run("compress", tiny_model, "-o", tmp_path / "small")
    assert done.status == 0
    first, weights, use = done.out.splitlines()
    assert first == str(tmp_path / "small") and weights.split("  ")[-1].count("MB") == 2
    assert use == f"Use it: retrieval index SOURCE --model {tmp_path / 'small'}"
    assert done.err == "What it costs was not measured: give --images SOURCE, and --captions FILE.\n"


@pytest.mark.parametrize(("options", "status", "said"), [
    (["no-such-model", "-o", "out"], 1, "There is no model named 'no-such-model'"),
    (["builtin", "-o", "out", "--captions", "a.csv"], 2, "--captions and --split are of --images"),
])
def test_refused(run, tmp_path, monkeypatch, options, status, said):
    monkeypatch.chdir(tmp_path)
    done = run("compress", *options)
    assert done.status == status and said in done.err
    assert list(tmp_path.iterdir()) == []
