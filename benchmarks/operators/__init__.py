"""How much of ONNX compiles: its own node tests through the whole compile path, as docs/operators.md.

`python -m benchmarks.operators` runs every case and writes the page; `--cases WORD` only those whose name holds the word.
"""
