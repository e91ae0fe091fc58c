"""`retrieval serve`"""

from __future__ import annotations

import signal

import click

from retrieval.cli import options


@click.command("serve", epilog=options.examples(
    "retrieval serve Photos.collection",
    "retrieval serve Photos.collection --host 0.0.0.0 --port 80",
    "curl 'http://127.0.0.1:8000/search?q=a+dog+on+the+beach&k=3'",
    "curl 'http://127.0.0.1:8000/search?q=a+dog&where=taken+>=+2024-06'",
    "curl --data-binary @sofa.jpg -H 'Content-Type: image/jpeg' 'http://127.0.0.1:8000/search?k=3'",
    "curl --json '{\"queries\": [{\"text\": \"a dog\"}], \"min_score\": \"auto\"}' http://127.0.0.1:8000/search",
))
@click.argument("collection", type=options.PATH)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS",
              help="Where to listen. 0.0.0.0 lets every machine in that reaches this one; there is no password.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, metavar="N",
              help="0 takes a free one.")
@options.device
@options.precision
def command(collection, host, port, device, precision) -> None:
    """Answer searches of COLLECTION over HTTP, with its encoder and index kept loaded.

    GET /search?q=WORDS&k=N searches by text, q may be repeated; POST /search by the image that is
    the body; with where=FILTER only images that pass are found, see `retrieval search`. GET /info
    says what is searched, GET /health that the server is up. Answers are JSON, a hit as `retrieval
    search --json` prints it; an error is {"error": SENTENCE}.

    \b
    POST /search with Content-Type: application/json asks all that `retrieval
    search` can, but --rerank:
      queries     a list of {"text": WORDS}, {"id": ID}, {"image": BASE64}, and
                  {"terms": [{"text": "car", "weight": 2}, {"id": ID}]}
      in          "images" or "captions"
      where, after, before, camera        as the options
      near        [LATITUDE, LONGITUDE, KILOMETRES]
      folders     a list of how paths begin, each with / at the end
      k, fusion, templates, min_score, dedup, diverse     as the options
      calibrated  true or false
    and is answered {"answers": [{"query": ..., "hits": [...]}, ...]}, an answer
    for each query, in order.

    Texts asked at the same time are encoded together. When `retrieval index` has changed the
    collection, the new state is searched. Ctrl-C or SIGTERM ends it, with status 0.
    """
    from retrieval.cli.interrupts import Interrupts
    from retrieval.serve import serve

    def tell(address: str, images: int) -> None:
        click.echo(f"Serving {images} images of {collection} at {address}. Ctrl-C ends it.", err=True)

    with Interrupts("Ending.", signal.SIGINT, signal.SIGTERM) as asked:
        serve(collection, host=host, port=port, device=device, precision=precision,
              stop=asked, on_ready=tell)
