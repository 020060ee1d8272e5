"""An operator that is compiled wrongly on purpose, in the processes that compile."""

from pathlib import Path

import pytest

WRONG = '''
"""Loaded by every Python of the test: once the compiler's lowering is there, one operator gets a wrong kernel."""
import importlib.util
import sys


class Miscompiling:
    def find_spec(self, name, path=None, target=None):
        if name != "vlab.compiling.lowering":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            import tvm
            from tvm import te, tirx

            def wrong(x):
                return te.compute(x.shape, lambda *at: {kernel}, name="wrong")

            def legalise(builder, call):
                return builder.call_te(wrong, call.args[0])

            tvm.ir.register_op_attr("{operator}", "FLegalize", legalise, level=99)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Miscompiling())
'''


def give_wrong_kernel(operator: str, kernel: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an operator of Relax, such as `relax.sin`, computed by another expression of `x(*at)` from now on."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WRONG.format(operator=operator, kernel=kernel))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
