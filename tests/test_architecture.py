"""Who may import whom. Rows live in `indexes`, meaning lives in `retrieval`; imports point downwards.

The order below is the design's, with the rooms that it did not name yet in their places.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from retrieval.cli import cli

ROOT = Path(__file__).parents[1]

# Lowest first. A module imports from lines below its own only; of two rooms on one line neither
# imports the other. A package's name stands for all of its modules, unless they have lines of
# their own.
INDEXES = [
    "indexes.errors",
    "indexes.cagra",
    "indexes.matches  indexes.vectors  indexes.layers  indexes.threads  indexes.scanner"
    "  indexes.rows  indexes.sample  indexes.memory",
    "indexes.suggest  indexes.spread  indexes.training",
    "indexes.spec  indexes.exact  indexes.candidates  indexes.device  indexes.scan  indexes.recall"
    "  indexes.parameters  indexes.near  indexes.sketch",
    "indexes.filtered  indexes.sketched  indexes.sketch_file",
    "indexes.rescoring",
    "indexes.index  indexes.flat",
    "indexes.build  indexes.persist  indexes.refined",
    "indexes.measure  indexes.biased  indexes.live  indexes.needs  indexes.tune",
    "indexes",
]
RETRIEVAL = [
    "retrieval  retrieval.errors  retrieval.files  retrieval.metrics  retrieval.bootstrap  retrieval.dates"
    "  retrieval.generic_queries",
    "retrieval.types  retrieval.images  retrieval.vectors  retrieval.manifest  retrieval.conditions  retrieval.decoding"
    "  retrieval.query_grammar  retrieval.query_cache",
    "retrieval.documents  retrieval.captions  retrieval.where  retrieval.wanted  retrieval.fusion",
    "retrieval.catalog_file",
    "retrieval.catalog  retrieval.encoders",
    "retrieval.corpus",
    "retrieval.contents  retrieval.reading",
    "retrieval.ingest  retrieval.query  retrieval.contact_sheet  retrieval.calibration  retrieval.show",
    "retrieval.query_vectors  retrieval.fused  retrieval.rank  retrieval.results",
    "retrieval.searching  retrieval.tuning  retrieval.sketches  retrieval.explain",
    "retrieval.indexed",
    "retrieval.stored",
    "retrieval.collection",
    "retrieval.writing  retrieval.batch  retrieval.named_image",
    "retrieval.retune",
    "retrieval.maintain  retrieval.compact  retrieval.train  retrieval.duplicate_groups  retrieval.captioning",
    "retrieval.embedded  retrieval.watch",
    "retrieval.classify  retrieval.evaluate  retrieval.exchange  retrieval.serve",
    "retrieval.report  retrieval.calibrating",
    "retrieval.demo",
    "retrieval.cli",
    "retrieval.__main__",
]
# Packages with an order of their own inside.
INSIDE = [
    [
        "retrieval.corpus",
        "retrieval.corpus.names  retrieval.corpus.found  retrieval.corpus.records  retrieval.corpus.parquet",
        "retrieval.corpus.sidecars",
        "retrieval.corpus.archives  retrieval.corpus.web",
        "retrieval.corpus.remote",
        "retrieval.corpus.addresses  retrieval.corpus.folder",
        "retrieval.corpus.sources  retrieval.corpus.layouts  retrieval.corpus.listing  retrieval.corpus.moving",
        "retrieval.corpus.captions  retrieval.corpus.qrels  retrieval.corpus.staging  retrieval.corpus.tables",
        "retrieval.corpus.scanning",
        "retrieval.corpus.datasets.files",
        "retrieval.corpus.datasets.flickr  retrieval.corpus.datasets.coco  retrieval.corpus.datasets.multilingual"
        "  retrieval.corpus.datasets.shards  retrieval.corpus.datasets.table",
        "retrieval.corpus.datasets",
    ],
    [
        "retrieval.images.colour  retrieval.images.facts  retrieval.images.formats  retrieval.images.limits",
        "retrieval.images.raw  retrieval.images.frames",
        "retrieval.images.video",
        "retrieval.images",
    ],
    [
        "retrieval.encoders.batches  retrieval.encoders.fingerprint  retrieval.encoders.fold  retrieval.encoders.hub"
        "  retrieval.encoders.precision  retrieval.encoders.packages  retrieval.encoders.coca"
        "  retrieval.encoders.relevance  retrieval.encoders.recurrent  retrieval.encoders.quantized"
        "  retrieval.encoders.resizing",
        "retrieval.encoders.preprocess  retrieval.encoders.towers  retrieval.encoders.text_tower"
        "  retrieval.encoders.compiled",
        "retrieval.encoders.auto  retrieval.encoders.openclip",
        "retrieval.encoders.loading  retrieval.encoders.builtin  retrieval.encoders.tokens"
        "  retrieval.encoders.sentence_tower",
        "retrieval.encoders.names  retrieval.encoders.multilingual",
        "retrieval.encoders",
        "retrieval.encoders.listing",
    ],
    [
        "retrieval.rank  retrieval.rank.diversity  retrieval.rank.duplicates  retrieval.rank.relevance"
        "  retrieval.rank.templates  retrieval.rank.vector_cache",
        "retrieval.rank.rerank",
        "retrieval.rank.refinement  retrieval.rank.cross_encoder",
        "retrieval.rank.rerankers",
    ],
    [
        "retrieval.show.blocks  retrieval.show.protocols  retrieval.show.terminal",
        "retrieval.show",
    ],
    [
        "retrieval.evaluate",
        "retrieval.evaluate.scores  retrieval.evaluate.task  retrieval.evaluate.subject",
        "retrieval.evaluate.evaluation  retrieval.evaluate.compare  retrieval.evaluate.published"
        "  retrieval.evaluate.calibrated",
        "retrieval.evaluate.index_losses  retrieval.evaluate.failures  retrieval.evaluate.export"
        "  retrieval.evaluate.relevance  retrieval.evaluate.request",
        "retrieval.evaluate.reranked",
        "retrieval.evaluate.benchmark",
    ],
    [
        "retrieval.train  retrieval.train.pairs  retrieval.train.prototypes  retrieval.train.augment"
        "  retrieval.train.losses  retrieval.train.gradient_cache  retrieval.train.processes  retrieval.train.towers"
        "  retrieval.train.trainable  retrieval.train.checkpoints  retrieval.train.privacy_budget"
        "  retrieval.train.settings  retrieval.train.kept  retrieval.train.heap",
        "retrieval.train.starting  retrieval.train.batches  retrieval.train.projection_loop  retrieval.train.outputs"
        "  retrieval.train.match  retrieval.train.references  retrieval.train.validation  retrieval.train.multilingual",
        "retrieval.train.model_folder  retrieval.train.teacher  retrieval.train.journal  retrieval.train.match_weight"
        "  retrieval.train.public_bank  retrieval.train.frozen_front",
        "retrieval.train.learner  retrieval.train.privacy  retrieval.train.mean  retrieval.train.cross_encoder",
        "retrieval.train.loop  retrieval.train.projections  retrieval.train.compress  retrieval.train.rehearsal"
        "  retrieval.train.plan",
        "retrieval.train.keeping",
        "retrieval.train.dual_encoder",
    ],
    [
        "retrieval.report",
        "retrieval.report.markup  retrieval.report.numbers  retrieval.report.pareto  retrieval.report.axes",
        "retrieval.report.labels  retrieval.report.tables  retrieval.report.pictures",
        "retrieval.report.scatter",
        "retrieval.report.bars",
        "retrieval.report.results  retrieval.report.losses  retrieval.report.failures",
        "retrieval.report.page",
    ],
    [
        "retrieval.exchange  retrieval.exchange.check  retrieval.exchange.entries"
        "  retrieval.exchange.folders",
        "retrieval.exchange.clip_folder  retrieval.exchange.rclip  retrieval.exchange.exporting",
        "retrieval.exchange.importing",
    ],
    [
        "retrieval.serve.searcher  retrieval.serve.running  retrieval.serve.body",
        "retrieval.serve.app  retrieval.serve.client",
        "retrieval.serve",
    ],
    [
        "retrieval.classify.folders  retrieval.classify.prompts  retrieval.classify.probe"
        "  retrieval.classify.scores",
        "retrieval.classify.truth  retrieval.classify.tag_scores",
        "retrieval.classify.tags",
        "retrieval.classify",
    ],
    [
        "retrieval.cli.options  retrieval.cli.output  retrieval.cli.interrupts  retrieval.cli.index_facts"
        "  retrieval.cli.train_options",
        "retrieval.cli.filters  retrieval.cli.hits  retrieval.cli.prompt  retrieval.cli.opening",
        "retrieval.cli.benchmark_tables  retrieval.cli.train_output",
        "retrieval.cli.index  retrieval.cli.search  retrieval.cli.benchmark  retrieval.cli.info"
        "  retrieval.cli.models  retrieval.cli.train  retrieval.cli.classify  retrieval.cli.export"
        "  retrieval.cli.compact  retrieval.cli.compress  retrieval.cli.forget  retrieval.cli.serve  retrieval.cli.calibrate"
        "  retrieval.cli.dedup  retrieval.cli.caption  retrieval.cli.explain  retrieval.cli.tag",
        "retrieval.cli.demo  retrieval.cli.import_  retrieval.cli.watch",
        "retrieval.cli",
    ],
]


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): ast.parse(path.read_text(encoding="utf-8"))
    for package in ("indexes", "retrieval") for path in sorted((ROOT / package).rglob("*.py"))
}


def imported(tree):
    """(module, name) of every import, those inside functions included; name is "" for whole modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from ((node.module, alias.name) for alias in node.names)


def modules_imported(name):
    """Modules of ours and top-level names of others; `from package import module` is the module."""
    return {
        f"{module}.{attribute}" if f"{module}.{attribute}" in MODULES else module
        for module, attribute in imported(MODULES[name])
    }


def libraries(name):
    return {module.partition(".")[0] for module in modules_imported(name)} - {"indexes", "retrieval"}


def below(*prefixes):
    """Modules of these rooms."""
    return [name for name in MODULES if any(name == one or name.startswith(one + ".") for one in prefixes)]


def level(name, order):
    """The place of the module, or else of the nearest package around it."""
    places = {room: place for place, line in enumerate(order) for room in line.split()}
    while name and name not in places:
        name = name.rpartition(".")[0]
    return places.get(name), name


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_downwards(name):
    rooms = INDEXES if name.startswith("indexes") else RETRIEVAL
    wrong = []
    for other in sorted(modules_imported(name) & MODULES.keys()):
        if other.partition(".")[0] != name.partition(".")[0]:
            continue  # between the two packages: see below
        own_place, own_room = level(name, rooms)
        place, room = level(other, rooms)
        if room == own_room:  # within one package
            inside = next((order for order in INSIDE if name in " ".join(order).split()), [])
            own_place, place = level(name, inside)[0], level(other, inside)[0]
        if (own_place is None or place is None or place >= own_place):
            wrong.append(other)
    assert wrong == []


def test_every_module_has_its_place():
    listed = [room for order in (INDEXES, RETRIEVAL, *INSIDE) for line in order for room in line.split()]
    assert [room for room in listed if room not in MODULES] == []
    top = {".".join(name.split(".")[:2]) for name in MODULES}
    assert sorted(top - set(listed)) == []


def test_indexes_knows_vectors_only():
    for name in below("indexes"):
        assert "retrieval" not in {module.partition(".")[0] for module in modules_imported(name)}, name
        others = libraries(name) - sys.stdlib_module_names
        assert others <= {"faiss", "numpy", "torch"}, name
        assert "sqlite3" not in libraries(name), name


def test_retrieval_uses_the_front_door_of_indexes():
    for name in below("retrieval"):
        inner = {module for module in modules_imported(name) if module.startswith("indexes.")}
        assert inner <= {"indexes.errors"}, name


# The "never" column of the design's table: rooms, and libraries that they may not import.
NEVER = [
    (["retrieval.images"], {"torch", "faiss", "open_clip", "sqlite3", "numpy"}),
    (["retrieval.corpus"], {"PIL", "torch", "faiss", "open_clip"}),
    (["retrieval.encoders"], {"faiss", "sqlite3"}),
    (["retrieval.catalog", "retrieval.catalog_file", "retrieval.captions", "retrieval.vectors"], {"torch", "faiss", "PIL", "open_clip"}),
    (["retrieval.collection", "retrieval.stored", "retrieval.indexed", "retrieval.tuning", "retrieval.retune", "retrieval.query", "retrieval.query_vectors", "retrieval.query_cache", "retrieval.sketches", "retrieval.fusion", "retrieval.fused",
      "retrieval.batch", "retrieval.where", "retrieval.wanted", "retrieval.conditions", "retrieval.dates", "retrieval.maintain",
      "retrieval.writing", "retrieval.compact", "retrieval.watch", "retrieval.contents", "retrieval.reading",
      "retrieval.decoding"],
     {"faiss", "torch", "open_clip", "PIL"}),
    (["retrieval.ingest", "retrieval.evaluate", "retrieval.contact_sheet", "retrieval.demo", "retrieval.explain",
      "retrieval.named_image", "retrieval.captioning"],
     {"faiss", "torch", "open_clip"}),
    (["retrieval.rank", "retrieval.searching", "retrieval.duplicate_groups"], {"faiss", "open_clip", "PIL"}),
    (["retrieval.embedded", "retrieval.classify"], {"faiss", "torch", "open_clip", "PIL", "sqlite3"}),
    (["retrieval.exchange"], {"torch", "faiss", "open_clip"}),
    (["retrieval.serve"], {"faiss", "torch", "open_clip", "PIL", "sqlite3", "numpy", "click"}),
    (["retrieval.show"], {"torch", "faiss", "numpy", "open_clip", "sqlite3", "click"}),
    (["retrieval.report"], {"faiss", "torch", "open_clip", "PIL", "sqlite3", "numpy"}),
    (["retrieval.cli"], {"faiss", "torch", "numpy", "PIL", "open_clip", "sqlite3"}),
]


@pytest.mark.parametrize(("rooms", "libraries_never"), NEVER, ids=lambda value: " ".join(sorted(value)))
def test_what_a_room_never_imports(rooms, libraries_never):
    names = below(*rooms)
    assert len(names) >= len(rooms)
    assert {name: sorted(libraries(name) & libraries_never) for name in names} == {name: [] for name in names}


def test_the_corpus_decodes_no_pixels():
    """It takes frames as bytes, and leaves it to the room of images how they come about."""
    taken = {
        attribute
        for name in below("retrieval.corpus")
        for module, attribute in imported(MODULES[name]) if module.startswith("retrieval.images")
    }
    assert taken == {
        "SUFFIXES", "VIDEO_SUFFIXES", "ANIMATED_SUFFIXES", "count_frames", "duration", "animation_frame",
        "video_frame",
    }


def test_torch_in_ranking_is_the_cross_encoders_alone():
    assert [name for name in below("retrieval.rank") if "torch" in libraries(name)] == ["retrieval.rank.cross_encoder"]


def test_metrics_need_numpy_alone():
    assert libraries("retrieval.metrics") - sys.stdlib_module_names == {"numpy"}
    assert modules_imported("retrieval.metrics") & MODULES.keys() == set()


def test_click_lives_in_the_command_line_alone():
    users = {name for name in MODULES if "click" in libraries(name)}
    assert "retrieval.cli" in users and users <= set(below("retrieval.cli"))


def test_the_web_lives_in_the_server_alone():
    """corpus.web is a client, serve.client one of our own server."""
    users = {name for name in MODULES if libraries(name) & {"starlette", "uvicorn", "http"}}
    assert users == {"retrieval.serve", "retrieval.serve.app", "retrieval.serve.client", "retrieval.corpus.web"}


def test_sqlite_lives_in_the_catalogue():
    """writing and exchange.folders only turn its errors into sentences; rclip's database is foreign, and
    remembered queries are nothing that the catalogue has to know."""
    users = {name for name in MODULES if "sqlite3" in libraries(name)}
    assert users == {
        "retrieval.catalog", "retrieval.catalog_file", "retrieval.captions", "retrieval.query_cache",
        "retrieval.writing", "retrieval.exchange.folders", "retrieval.exchange.rclip", "retrieval.rank.vector_cache",
    }


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is(name):
    assert ast.get_docstring(MODULES[name])


def loaded_after(code):
    """Which of the heavy libraries a fresh interpreter has loaded after running `code`."""
    heavy = ("torch", "faiss", "numpy", "PIL", "open_clip", "transformers", "sqlite3")
    probe = f"{code}\nimport sys\nprint([one for one in {heavy} if one in sys.modules])"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return ast.literal_eval(run.stdout.splitlines()[-1])


def test_help_loads_nothing_heavy():
    code = """if True:
        from click.testing import CliRunner
        from retrieval.cli import cli
        for command in ([], *([name] for name in cli.commands)):
            result = CliRunner().invoke(cli, [*command, "--help"])
            assert result.exit_code == 0 and "Examples:" in result.output, result.output
    """
    assert loaded_after(code) == []


@pytest.mark.parametrize(
    ("module", "loaded"),
    [
        ("retrieval", []),
        ("indexes", []),
        ("retrieval.errors", []),
        ("retrieval.types", []),
        ("retrieval.manifest", []),
        ("retrieval.metrics", ["numpy"]),
        ("retrieval.images", ["PIL"]),
        ("retrieval.vectors", ["numpy"]),
        ("retrieval.decoding", []),
        ("retrieval.encoders.resizing", ["numpy", "PIL"]),
        ("retrieval.stored", ["faiss", "numpy", "PIL", "sqlite3"]),
        ("retrieval.collection", ["faiss", "numpy", "PIL", "sqlite3"]),
        ("retrieval.maintain", ["faiss", "numpy", "PIL", "sqlite3"]),
        ("retrieval.evaluate.benchmark", ["faiss", "numpy", "PIL", "sqlite3"]),
        ("retrieval.embedded", ["faiss", "numpy", "PIL", "sqlite3"]),
        ("retrieval.classify", ["faiss", "numpy", "PIL", "sqlite3"]),
        ("retrieval.explain", ["numpy", "PIL", "sqlite3"]),
        ("retrieval.captioning", ["faiss", "numpy", "PIL", "sqlite3"]),
        ("retrieval.exchange.importing", ["faiss", "numpy", "PIL", "sqlite3"]),
        ("retrieval.exchange.exporting", ["faiss", "numpy", "PIL", "sqlite3"]),
        ("retrieval.serve", []),
        ("retrieval.serve.body", ["PIL"]),
        ("retrieval.serve.client", ["PIL"]),
        ("retrieval.corpus.addresses", ["PIL"]),
        ("retrieval.demo", ["faiss", "numpy", "PIL", "sqlite3"]),
    ],
)
def test_what_importing_a_room_loads(module, loaded):
    """Seconds of waiting for torch belong to encoding, not to opening a collection."""
    assert loaded_after(f"import {module}") == loaded


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_has_help_and_examples(name):
    command = cli.commands[name]
    assert command.help and len(command.help.split()) >= 5
    _, heading, lines = command.epilog.partition("Examples:\n")
    examples = [line.strip() for line in lines.splitlines()]
    assert heading and any(line.startswith(f"retrieval {name}") for line in examples)
    assert all("retrieval " in line or line.startswith("curl ") for line in examples)
