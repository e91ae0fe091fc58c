"""Videos and animations on the command line."""

import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path, write_video):
    """Grey, and for a second from 83 s on as light as can be."""
    folder = tmp_path / "clips"
    folder.mkdir()
    write_video(folder / "clip.mp4", [60, 250, 60], [0, 83_000, 84_000])
    Image.new("RGB", (32, 32), "red").save(folder / "still.png")
    return folder


def test_index_and_search_frames(run, folder, tiny_model, tmp_path):
    path = tmp_path / "clips.collection"
    done = run("index", folder, "-o", path, "-m", tiny_model, "--video-every", "41.5", "--json")
    assert (done.status, done.err, done.objects[0]["images"]) == (0, "", 4)
    query = tmp_path / "query.png"
    Image.new("RGB", (64, 48), (250,) * 3).save(query)
    best = run("search", path, query, "-k", "1", "--json").objects[0]
    assert (best["id"], best["path"], best["time_seconds"]) == (
        "clip.mp4#t=83", f"{folder}/clip.mp4#t=83", 83.0)
    assert run("search", path, query, "-k", "1").rows[1][3] == f"{folder}/clip.mp4 @ 00:01:23"
    still = run("search", path, folder / "still.png", "-k", "1", "--json").objects[0]
    assert still["path"] == f"{folder}/still.png" and "time_seconds" not in still


def test_videos_without_the_option_are_passed_over_with_one_notice(run, folder, tiny_model, tmp_path):
    done = run("index", folder, "-o", tmp_path / "c.collection", "-m", tiny_model, "--json")
    assert (done.status, done.objects[0]["images"], done.objects[0]["skipped"]) == (0, 1, [])
    assert done.err == "1 video was passed over; --video-every 10 samples a frame each 10 seconds.\n"


def test_a_video_given_by_name(run, folder, tiny_model, tmp_path):
    done = run("index", folder / "clip.mp4", "-o", tmp_path / "c.collection", "-m", tiny_model, "--json")
    assert (done.status, done.err, done.objects[0]["images"]) == (0, "", 9)


def test_damaged_videos_are_named(run, folder, tiny_model, tmp_path):
    (folder / "empty.webm").touch()
    done = run("index", folder, "-o", tmp_path / "c.collection", "-m", tiny_model, "--video-every", "60")
    assert done.status == 0
    assert done.err == f"Skipped 1 unreadable:\n  {folder}/empty.webm: the file is empty\n"


def test_frames_of_animations(run, tiny_model, tmp_path):
    folder = tmp_path / "moving"
    folder.mkdir()
    first, *others = [Image.new("L", (16, 16), 25 * index) for index in range(10)]
    first.save(folder / "a.gif", save_all=True, append_images=others)
    path = tmp_path / "moving.collection"
    assert run("index", folder, "-o", path, "-m", tiny_model, "--frames", "3").status == 0
    hits = run("search", path, "grey", "--json").objects
    assert sorted((hit["id"], hit["frame"]) for hit in hits) == [
        ("a.gif#frame=0", 0), ("a.gif#frame=3", 3), ("a.gif#frame=6", 6)]


def test_a_video_is_no_query(run, folder, tiny_model, tmp_path):
    path = tmp_path / "c.collection"
    run("index", folder, "-o", path, "-m", tiny_model)
    done = run("search", path, folder / "clip.mp4")
    assert (done.status, done.out) == (1, "")
    assert done.err.endswith("clip.mp4 is a video. Search by a picture, such as one frame of it saved as a file.\n")
