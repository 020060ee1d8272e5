"""How fast, how small and how exact what VLab compiles is; `python -m benchmarks.compile` measures all of it."""
