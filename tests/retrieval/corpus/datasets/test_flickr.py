import pytest

from retrieval.corpus.captions import match_captions
from retrieval.corpus.datasets import load_dataset
from retrieval.errors import DatasetError

TOKENS = "hen.jpg#0\ta hen\nhen.jpg#1\ta bird\nowl.jpg#0\tan owl\ncat.jpg#0\ta cat\n"
KAGGLE = 'image,caption\nhen.jpg,"a hen, here"\nowl.jpg,an owl\ncat.jpg,a cat\n'
KARPATHY = {
    "images": [
        {"filename": "hen.jpg", "imgid": 0, "split": "test", "sentences": [{"raw": "a hen", "sentid": 0}]},
        {"filename": "owl.jpg", "imgid": 1, "split": "train", "sentences": [{"raw": "an owl", "sentid": 1}]},
    ]
}
IMAGES = {"Flicker8k_Dataset/hen.jpg": None, "Flicker8k_Dataset/owl.jpg": None, "Flicker8k_Dataset/cat.jpg": None}


def found(dataset):
    """Images, captions, and how the first is listed."""
    names = [source.name.rpartition("/")[2] for source in dataset.images]
    return names, [caption.text for caption in dataset.captions.captions], dataset.rules[0]


class TestFlickr8k:
    def test_karpathy(self, lay_out):
        dataset = load_dataset("flickr8k", lay_out({**IMAGES, "captions/dataset_flickr8k.json": KARPATHY}))
        assert found(dataset) == (
            ["hen.jpg"], ["a hen"], "Karpathy's test split (dataset_flickr8k.json): 1 image."
        )

    def test_a_table_of_splits(self, lay_out):
        table = "split\timage\tcaption\ntest\then.jpg\ta hen\ntrain\towl.jpg\tan owl\n"
        root = lay_out({**IMAGES, "captions.tsv": table, "dataset_flickr8k.json": KARPATHY})
        assert found(load_dataset("flickr8k", root, split="train")) == (
            ["owl.jpg"], ["an owl"], "The train split (captions.tsv): 1 image."
        )
        assert found(load_dataset("flickr8k", root, split="all"))[2] == "Every split of captions.tsv: 2 images."

    @pytest.mark.parametrize(
        ("split", "listed"), [("test", "test"), ("train", "train"), ("val", "dev"), ("dev", "dev")]
    )
    def test_tokens_and_a_list(self, lay_out, split, listed):
        text = {"Flickr8k.token.txt": TOKENS, f"text/Flickr_8k.{listed}Images.txt": "owl.jpg\r\nhen.jpg\r\n"}
        dataset = load_dataset("flickr8k", lay_out({**IMAGES, **text}), split=split)
        assert found(dataset) == (
            ["hen.jpg", "owl.jpg"], ["a hen", "a bird", "an owl"],
            f"The official {split} split (Flickr_8k.{listed}Images.txt): 2 images.",
        )
        assert [caption.id for caption in dataset.captions.captions] == ["hen.jpg#0", "hen.jpg#1", "owl.jpg#0"]

    def test_the_table_of_kaggle_and_a_list(self, lay_out):
        root = lay_out({**IMAGES, "captions.txt": KAGGLE, "Flickr_8k.testImages.txt": "hen.jpg\n"})
        assert found(load_dataset("flickr8k", root))[:2] == (["hen.jpg"], ["a hen, here"])

    def test_without_a_list_there_are_no_splits(self, lay_out):
        root = lay_out({**IMAGES, "captions.txt": KAGGLE})
        with pytest.raises(DatasetError, match="names no splits, and Flickr_8k.testImages.txt is not below"):
            load_dataset("flickr8k", root)
        assert found(load_dataset("flickr8k", root, split="all"))[0] == ["hen.jpg", "owl.jpg", "cat.jpg"]

    def test_a_split_that_was_never_made(self, lay_out):
        root = lay_out({**IMAGES, "captions.txt": KAGGLE})
        with pytest.raises(DatasetError, match="no split 'restval': choose from 'test', 'train', 'val', 'dev'"):
            load_dataset("flickr8k", root, split="restval")

    def test_a_list_of_other_images(self, lay_out):
        root = lay_out({**IMAGES, "captions.txt": KAGGLE, "Flickr_8k.testImages.txt": "dog.jpg\n"})
        with pytest.raises(DatasetError, match="captions none of the images that Flickr_8k.testImages.txt lists"):
            load_dataset("flickr8k", root)

    def test_the_tar_of_the_split_comes_first(self, lay_out, tar, jpeg):
        root = lay_out({"dataset_flickr8k.json": KARPATHY})
        for name in ("all", "test"):
            tar(root / f"{name}.tar", {"hen.jpg": jpeg()})
        assert [source.path.name for source in load_dataset("flickr8k", root).images] == ["test.tar"]

    @pytest.mark.flickr8k
    def test_the_real_one(self, flickr8k):
        dataset = load_dataset("flickr8k", flickr8k)
        assert dataset.rules == ["The test split (captions.tsv): 1,000 images.", "5 captions of an image: 5,000."]
        assert len(dataset.images) == 1_000 and len(dataset.captions.captions) == 5_000
        first, caption = dataset.images[0], dataset.captions.captions[0]
        assert (first.name, first.path) == ("test/1056338697_4f7d7ce270.jpg", flickr8k / "test.tar")
        assert first.read()[:3] == b"\xff\xd8\xff"
        assert caption.text == "A blond woman in a blue shirt appears to wait for a ride ."
        matched = match_captions(dataset.captions.captions, [source.name for source in dataset.images])
        assert matched.documents.tolist() == [image for image in range(1_000) for _ in range(5)]
        assert (matched.missing, matched.ambiguous, matched.uncaptioned) == ([], [], [])


class TestFlickr30k:
    IMAGES = {"flickr30k-images/hen.jpg": None, "flickr30k-images/owl.jpg": None}
    RESULTS = "image_name| comment_number| comment\nhen.jpg| 0| a hen\nowl.jpg| 0| an owl\nowl.jpg| 4   an owl asleep\n"

    def test_karpathy(self, lay_out):
        root = lay_out({**self.IMAGES, "dataset_flickr30k.json": KARPATHY, "results.csv": self.RESULTS})
        assert found(load_dataset("flickr30k", root))[:2] == (["hen.jpg"], ["a hen"])

    def test_the_table_of_the_hub(self, lay_out):
        table = (
            "raw,sentids,split,filename,img_id\n"
            '"[""a hen"", ""hens""]","[0, 1]",test,hen.jpg,0\n"[""x""]",[2],val,owl.jpg,1\n'
        )
        dataset = load_dataset("flickr30k", lay_out({**self.IMAGES, "flickr_annotations_30k.csv": table}))
        assert found(dataset) == (
            ["hen.jpg"], ["a hen", "hens"], "Karpathy's test split (flickr_annotations_30k.csv): 1 image."
        )

    def test_the_table_of_clip_benchmark(self, lay_out):
        root = lay_out({**self.IMAGES, "flickr30k_test_karpathy.txt": "image,caption\nhen.jpg,a hen, here\n"})
        assert found(load_dataset("flickr30k", root))[:2] == (["hen.jpg"], ["a hen, here"])
        with pytest.raises(DatasetError, match="does not hold any of .* flickr30k_val_karpathy.txt. It holds"):
            load_dataset("flickr30k", root, split="val")

    @pytest.mark.parametrize("name", ["results.csv", "results_20130124.token"])
    def test_captions_without_splits(self, lay_out, name):
        root = lay_out({**self.IMAGES, name: self.RESULTS if name == "results.csv" else TOKENS})
        with pytest.raises(DatasetError, match=f"{name} names no splits, .* or choose the split 'all'"):
            load_dataset("flickr30k", root)
        images, texts, rule = found(load_dataset("flickr30k", root, split="all"))
        assert images == ["hen.jpg", "owl.jpg"] and texts[0] == "a hen"
        assert rule.startswith(f"Every split of {name}: ")

    def test_the_damaged_line_is_passed_over(self, lay_out):
        dataset = load_dataset("flickr30k", lay_out({**self.IMAGES, "results.csv": self.RESULTS}), split="all")
        assert [caption.text for caption in dataset.captions.captions] == ["a hen", "an owl"]
        assert dataset.captions.malformed == ["line 4 has 2 fields, the header 3"]
