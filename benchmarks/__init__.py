"""Speed and memory, with peers side by side: python -m benchmarks --help."""
