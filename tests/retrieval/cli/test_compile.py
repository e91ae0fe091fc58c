"""`--compile` reaches the encoder, and is off without it."""

import numpy as np

from retrieval.encoders import openclip


def test_index_asks_for_it(run, photo_folder, tiny_model, tmp_path, monkeypatch):
    compiled = []

    def tower_as_it_is(tower, name):
        compiled.append(name)
        return tower

    monkeypatch.setattr(openclip, "Compiled", tower_as_it_is)
    vectors = []
    for options in ([], ["--compile"]):
        path = tmp_path / f"{len(options)}.collection"
        done = run("index", photo_folder, "-o", path, "--model", tiny_model, "--device", "cpu", *options)
        assert done.status == 0, done.err
        assert len(compiled) == len(options)
        vectors.append(np.load(path / "vectors" / "00000.npy"))
    np.testing.assert_array_equal(*vectors)
    assert compiled == [f"local-dir:{tiny_model}"]
