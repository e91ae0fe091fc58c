"""`python -m retrieval`, where the command itself is not on the path."""

from retrieval.cli import main

main()
