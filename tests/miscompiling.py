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
            from tvm import relax, te, tirx

            def legalise(builder, call):
                return {legalised}

            tvm.ir.register_op_attr("{operator}", "FLegalize", legalise, level=99)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Miscompiling())
'''


def give_wrong_kernel(
    operator: str, kernel: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *, shape: str = "x.shape"
) -> None:
    """Have an operator of Relax, such as `relax.sin`, computed by another expression of `x(*at)` from now on."""
    computed = f'lambda x: te.compute({shape}, lambda *at: {kernel}, name="wrong")'
    legalise_wrongly(operator, f"builder.call_te({computed}, call.args[0], primfunc_name_hint='wrong')", folder, monkeypatch)


def legalise_wrongly(operator: str, legalised: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the `call` of an operator of Relax become another expression, made with the block builder `builder`."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WRONG.format(operator=operator, legalised=legalised))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")


SHIFTED = '''
"""Loaded by every Python of the test: the integer kernel whose codes have one scale gives codes that are one too large."""
import dataclasses
import importlib.util
import sys


class Shifting:
    def find_spec(self, name, path=None, target=None):
        if name != "vlab.compiling.integer.rescaling":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            right = module.Rescaling.of

            def wrong(bias, largest, scales, output, **options):
                made = right(bias, largest, scales, output, **options)
                return dataclasses.replace(made, zero_point=made.zero_point + (abs(output.scale - {scale}) < 1e-6))

            module.Rescaling.of = wrong

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Shifting())
'''


def shift_codes(scale: float, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the integer kernel whose codes have this scale give codes that are all one too large."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SHIFTED.format(scale=scale))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
