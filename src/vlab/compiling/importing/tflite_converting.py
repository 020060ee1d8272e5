"""TFLite operators → Relax, one after the other: each with its origin, and errors that name operators."""

from typing import Any

from tvm import relax

from vlab.compiling.foreign import said
from vlab.compiling.importing.refusing import Refused
from vlab.compiling.importing.tflite_quantised import QuantisedConverter
from vlab.compiling.lineage import Origins

_CONTROL = ("CALL", "CALL_ONCE", "IF", "STABLEHLO_WHILE", "WHILE")
_STATEFUL = ("ASSIGN_VARIABLE", "READ_VARIABLE", "VAR_HANDLE")
_RANDOM = ("MULTINOMIAL", "RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM", "STABLEHLO_RNG_BIT_GENERATOR")
_BY_DATA = ("NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "UNIQUE", "WHERE")
_REFUSALS = {
    **dict.fromkeys(_CONTROL, "control flow cannot become a flat list of kernel calls"),
    **dict.fromkeys(_STATEFUL, "it keeps a state between inferences"),
    **dict.fromkeys(_RANDOM, "it draws random numbers, so there is nothing to compare the compiled model with"),
    **dict.fromkeys(_BY_DATA, "the shape of its output depends on the data, and shapes are fixed at compile time"),
}


class Converter(QuantisedConverter):
    """The converter for one graph; what it refuses and where results come from is put into `refused` and `origins`."""

    def __init__(self, origins: Origins, refused: list[Refused], *given: Any) -> None:
        super().__init__(*given)
        self._origins = origins
        self._refused = refused

    def check_unsupported_ops(self) -> None:
        """Each operator is looked at before it is converted."""

    def convert_op_to_relax(self) -> None:
        """All operators; one that is refused gives values of the types it should, so that others are looked at too."""
        for index in range(self.subgraph.OperatorsLength()):
            operator = self.subgraph.Operators(index)
            kind = self._kind(operator)
            indices = [int(place) for place in operator.OutputsAsNumpy()]
            name = f"{index} {self._name(indices[-1])}" if indices else str(index)
            why = self._unsupported(operator, kind)
            if why is None:
                try:
                    self._convert(operator, kind)
                except Exception as error:  # noqa: BLE001 - whatever the converter stumbles over, the user gets the operator
                    why = said(error)
            if why is not None:
                self._refused.append(Refused(kind, name, why))
                for place in indices:
                    self.exp_tab.set_expr(self._name(place), self._stand_in(place), force_override=True)
                continue
            for place in indices:
                if self.exp_tab.has_expr(self._name(place)):
                    self._origins.note(name, self.exp_tab.get_expr(self._name(place)))

    def _convert(self, operator: Any, kind: str) -> None:
        outputs = self.get_output_tensors(operator)
        result = self.converted(operator, kind)
        if result is None:
            return  # a constant, which the converter remembers
        result = self.bb.normalize(result)
        for place, tensor in enumerate(outputs):
            self.exp_tab.set_expr(self._name(tensor.tensor_idx), result if len(outputs) == 1 else result[place])

    def _kind(self, operator: Any) -> str:
        """Name of the operator as the schema has it; of a custom one its own."""
        code = self.model.OperatorCodes(operator.OpcodeIndex())
        number = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
        kind: str = self.builtin_op_code.get(number, f"operator {number}")
        return f"custom.{(code.CustomCode() or b'').decode(errors='replace')}" if kind == "CUSTOM" else kind

    def _unsupported(self, operator: Any, kind: str) -> str | None:
        """Why an operator is not looked at further; empty where nobody knows it; None where it may be converted."""
        if kind in _REFUSALS:
            return _REFUSALS[kind]
        if kind not in self.convert_map:
            return ""
        inputs = self.get_input_tensors(operator)
        quantised = [tensor.qnn_params is not None for tensor in [*inputs, *self.get_output_tensors(operator)]]
        if not quantised[0] and not quantised[-1] and any(quantised) and kind != "EMBEDDING_LOOKUP":
            return (
                "its weights are quantised and its activations are not; convert with full integer quantisation, or in float16"
            )
        if any(quantised) and not self.takes_codes(kind):
            return "there is no quantised form of it here; leave it in float32 when quantising"
        return None

    def _name(self, place: int) -> str:
        return str(self.subgraph.Tensors(place).Name().decode())

    def _stand_in(self, place: int) -> Any:
        tensor = self.subgraph.Tensors(place)
        shape = [int(tensor.Shape(axis)) for axis in range(tensor.ShapeLength())]
        return relax.Var(self._name(place), relax.TensorType(shape, self.get_tensor_type_str(tensor.Type())))
