"""The wheel and the sdist hold exactly the two packages and their data."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("indexes", "retrieval")


def package_files(root: Path) -> set[str]:
    """What belongs into both archives: code, and the data that the packages carry."""
    return {
        path.relative_to(root).as_posix()
        for package in PACKAGES
        for path in (root / package).rglob("*")
        if path.suffix in {".py", ".pyi", ".typed", ".tsv", ".csv", ".json", ".safetensors", ".md", ".css", ".txt"}
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Both archives, built from a copy so that the checkout stays clean."""
    source = tmp_path_factory.mktemp("source") / "project"
    ignore = shutil.ignore_patterns(".git", ".venv", "__pycache__", "*.egg-info", "build", "dist", "*.collection")
    shutil.copytree(ROOT, source, ignore=ignore)
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source],
        check=True, capture_output=True,
    )
    return out


def test_wheel(built):
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    meta = {name for name in names if ".dist-info/" in name}
    assert names - meta == package_files(ROOT)
    assert any(name.endswith("licenses/LICENSE") for name in meta)


def test_sdist(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames() if archive.getmember(name).isfile()}
    meta = {name for name in names if ".egg-info/" in name}
    assert names - meta == package_files(ROOT) | {
        "LICENSE", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg", "MANIFEST.in",
    }


def test_package_data_is_what_it_should_be():
    data = {name for name in package_files(ROOT) if not name.endswith(".py")}
    assert data == {
        "indexes/py.typed", "retrieval/py.typed", "retrieval/__init__.pyi", "retrieval/demo/captions.tsv",
        "retrieval/generic_queries/vocabulary.tsv",
        "retrieval/evaluate/published.csv",
        "retrieval/rank/background.txt",
        "retrieval/report/style.css",
        "retrieval/encoders/builtin/MODEL_CARD.md",
        "retrieval/encoders/builtin/fingerprint.json",
        "retrieval/encoders/builtin/multilingual.safetensors",
        "retrieval/encoders/builtin/open_clip_config.json",
        "retrieval/encoders/builtin/trained.safetensors",
        "retrieval/encoders/builtin/references.safetensors",
        "retrieval/encoders/builtin/training.json",
    }
