"""What belongs to the user stays, whatever goes wrong; and what a stranger may type."""

import os
import shutil

import pytest


def test_rebuild_refuses_a_folder_with_files_of_ones_own(run, photo_folder, tiny_model, tmp_path):
    library = tmp_path / "library"
    assert run("index", photo_folder, "-o", library, "-m", tiny_model).status == 0
    shutil.copytree(photo_folder, library / "originals")
    done = run("index", library / "originals", "-o", library, "-m", tiny_model, "--rebuild")
    assert done.status == 1 and "holds more than the collection (originals)" in done.err
    assert (library / "originals" / "chelsea.png").is_file()
    assert len(run("search", library, "a cat", "--json").objects) == 6


def test_an_empty_folder_of_the_users_stays_when_nothing_can_be_read(run, tiny_model, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.jpg").write_text("no image")
    (tmp_path / "mine").mkdir()
    assert run("index", tmp_path / "bad", "-o", tmp_path / "mine", "-m", tiny_model).status == 1
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_pipe_is_no_image(run, tiny_model, tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    done = run("index", tmp_path / "pipe.jpg", "-o", tmp_path / "c", "-m", tiny_model)
    assert done.status == 1 and "neither a folder nor an ordinary file" in done.err


def test_documents_below_a_folder_that_cannot_be_listed_are_kept(
    run, collection, photo_folder, monkeypatch
):
    walk = os.walk

    def unreadable(top, onerror=None, **options):
        for parent, folders, files in walk(top, onerror=onerror, **options):
            if "2019" in folders:
                folders.remove("2019")
                onerror(PermissionError(13, "Permission denied", str(photo_folder / "2019")))
            yield parent, folders, files

    monkeypatch.setattr(os, "walk", unreadable)
    (report,) = run("index", photo_folder, "-o", collection, "--json").objects
    assert (report["images"], report["dropped"]) == (6, 0)
    assert report["skipped"] == [
        {"path": str(photo_folder / "2019"), "reason": "cannot be read: Permission denied"}
    ]


def test_an_interrupt_just_behind_a_commit_stays_an_interrupt(collection):
    from retrieval.catalog import Catalog
    from retrieval.catalog_file import transaction

    with Catalog.open(collection, writable=True) as catalog:
        before = catalog.generation
        with pytest.raises(KeyboardInterrupt), transaction(catalog._db):
            catalog._db.execute("COMMIT")
            raise KeyboardInterrupt
        assert catalog.generation == before


@pytest.mark.parametrize("arguments", [["index", "", "-o", "x"], ["search", "", "a"], ["info", ""]])
def test_an_unset_variable_is_not_the_current_folder(run, arguments):
    done = run(*arguments)
    assert done.status == 2 and "the path is empty" in done.err


@pytest.mark.parametrize("name", ["x" * 300, "a/" + "y" * 300])
def test_names_too_long_for_the_system(run, tiny_model, name):
    for arguments in (["index", name, "-m", tiny_model], ["info", name]):
        done = run(*arguments)
        assert done.status == 1 and done.err.startswith("Error: ") and "Traceback" not in done.err


def test_a_query_that_starts_with_a_dash(run, collection):
    assert run("search", collection, "-k", "1", "--json", "--", "-40").objects[0]["query"] == "-40"


@pytest.mark.parametrize("model", ["hf-hub:", "hf-hub:a/b/c", "hf-hub:../x"])
def test_names_no_hub_has(run, photo_folder, tmp_path, model):
    done = run("index", photo_folder, "-o", tmp_path / "c", "-m", model)
    assert done.status == 1 and "does not name a model of the hub" in done.err


def test_the_choice_of_auto_is_told_off_a_terminal_too(run, photo_folder, tmp_path):
    done = run("index", photo_folder, "-o", tmp_path / "c")
    assert done.status == 0
    assert "built-in encoder, because ViT-B-32-SigLIP2-256/webli is not on this machine" in done.err
    assert "--model NAME" in done.err


def test_photos_of_the_same_name_have_outputs_of_their_own(tmp_path, sample_photos):
    from retrieval.encoders import builtin
    from retrieval.train.outputs import TowerOutputs, without_projections
    from retrieval.train.pairs import Pairs, Photo

    outputs = TowerOutputs(without_projections(builtin.load_towers_only("towers", builtin.config())), tmp_path, device="cpu")
    first, second = (outputs.of_photos(Pairs([Photo("1.jpg", path.read_bytes)], [["a photo"]], 0), 0) for path in sample_photos[:2])
    assert (first.astype(float) @ second.astype(float).T).item() < 0.99
