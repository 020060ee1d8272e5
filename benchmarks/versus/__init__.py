"""Our executables against ONNX Runtime, which is put behind the same harness, so that one clock and one counter measure both.

`python -m benchmarks.versus TARGET MODEL ...` compares models on this machine.
"""
