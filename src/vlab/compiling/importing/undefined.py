"""Nodes of ONNX's own domains whose operator ONNX does not define in the version that the model says.

ONNX's checker stops at the first one. Under a domain that it does not know they pass, and are refused with everything else.
"""

import difflib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import onnx

from vlab.compiling.importing.refusing import Refused

_DOMAIN = "undefined"
_OWN = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview.training")
_SHORTEST_NAME = 3
"""Letters of an operator's name that count as its beginning."""


def set_apart(model: Any) -> dict[str, str]:
    """Move such nodes into a domain of their own, also within other nodes' graphs and within functions.

    Returns:
        What about each operator, under the name it now has.
    """
    told: dict[str, str] = {}
    parts = [(model.graph.node, model.opset_import)]
    parts += [(function.node, function.opset_import) for function in model.functions]
    own = {(function.domain, function.name) for function in model.functions}
    for nodes, opsets in parts:
        versions = {one.domain: one.version for one in opsets}
        for node in _within(nodes):
            version = versions.get(node.domain, versions.get("ai.onnx" if not node.domain else ""))
            if node.domain not in _OWN or version is None or (node.domain, node.op_type) in own:
                continue
            if why := _undefined(node.op_type, version, node.domain.removeprefix("ai.onnx") and node.domain):
                node.domain = _DOMAIN
                told[f"{_DOMAIN}.{node.op_type}"] = why
        if told:
            opsets.add(domain=_DOMAIN, version=1)
    return told


def named(refused: Refused, told: dict[str, str]) -> Refused:
    """A refused node under the name that the model gives its operator, with what about it."""
    if refused.operator not in told:
        return refused
    return replace(refused, operator=refused.operator.removeprefix(f"{_DOMAIN}."), why=told[refused.operator])


def _within(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in [attribute.g, *attribute.graphs] if attribute.type in (5, 10) else []:
                yield from _within(graph.node)


def _undefined(operator: str, version: int, domain: str) -> str:
    """Why a version of a domain's operator set has no such operator, and the nearest it has; empty where it has it."""
    try:
        if not onnx.defs.get_schema(operator, version, domain).deprecated:
            return ""
        return f"ONNX dropped it before operator set {version}"
    except onnx.defs.SchemaError:
        pass
    if onnx.defs.has(operator, domain):
        history = onnx.defs.get_all_schemas_with_history()
        since = min(one.since_version for one in history if (one.name, one.domain) == (operator, domain))
        return f"ONNX has it from operator set {since} on, and the model says {version}; export it with operator set {since}"
    nearest = _nearest(operator, [one.name for one in onnx.defs.get_all_schemas() if one.domain == domain])
    known = (
        f"the nearest is {nearest}"
        if nearest
        else "express it by ONNX's own operators, or define it as a function of the model"
    )
    return f"ONNX has no such operator; {known}"


def _nearest(name: str, known: list[str]) -> str:
    """A name that differs by letters, or that the name begins with; empty where there is none."""
    letters = {one.lower(): one for one in known}
    if close := difflib.get_close_matches(name.lower(), letters, 1, 0.8):
        return letters[close[0]]
    begins = [one for one in letters if len(one) >= _SHORTEST_NAME and name.lower().startswith(one)]
    return letters[max(begins, key=len)] if begins else ""
