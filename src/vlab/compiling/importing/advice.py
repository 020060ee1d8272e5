"""What to use in place of an operator that cannot be compiled."""

_ENDS_BEFORE = "end the model before it, and do that part where the results are used"
_INTEGER = "use QuantizeLinear and DequantizeLinear around the float operator"
_TEXT = "turn text into numbers before the model"
_TRAINING = "export the model for inference"
_LISTS = "use tensors: Split or Gather for the parts of a list, Concat for putting them together"
_FIXED_LENGTH = "give the sequence a fixed length of at most 1024 steps"
_FIXED_SHAPES = "export with fixed shapes, or fix them with --shape"
_UNROLLED = "convert with fixed lengths and unrolled loops"
_STATE = "give the state as an input and an output"
_OWN_OPERATOR = "express it by TFLite's own operators"
_RANDOM = "give the random numbers as an input"

_ADVICE = {
    **dict.fromkeys(("NonZero", "Unique", "NonMaxSuppression"), _ENDS_BEFORE),
    "ConvInteger": _INTEGER,
    **dict.fromkeys(("StringConcat", "StringNormalizer", "StringSplit", "RegexFullMatch", "TfIdfVectorizer"), _TEXT),
    **dict.fromkeys(("ai.onnx.ml.LabelEncoder", "ai.onnx.ml.CategoryMapper"), _TEXT),
    **dict.fromkeys(
        ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"), _RANDOM
    ),
    **dict.fromkeys(
        ("Dropout", *(f"ai.onnx.preview.training.{name}" for name in ("Adagrad", "Adam", "Gradient", "Momentum"))), _TRAINING
    ),
    **dict.fromkeys(
        (
            "SequenceAt",
            "SequenceConstruct",
            "SequenceEmpty",
            "SequenceErase",
            "SequenceInsert",
            "SequenceLength",
            "SequenceMap",
        ),
        _LISTS,
    ),
    **dict.fromkeys(("SplitToSequence", "ConcatFromSequence"), _LISTS),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _FIXED_LENGTH),
    **dict.fromkeys(("ConstantOfShape", "Range", "Reshape", "Expand"), _FIXED_SHAPES),
    **dict.fromkeys(("IF", "WHILE", "CALL", "CALL_ONCE"), _UNROLLED),
    **dict.fromkeys(("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"), _STATE),
    **dict.fromkeys(("NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "WHERE", "UNIQUE"), _ENDS_BEFORE),
    **dict.fromkeys(("RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM", "MULTINOMIAL"), _RANDOM),
    "Scatter": "use ScatterElements",
    "Upsample": "use Resize",
    "If": "export the branch that is used, or compute both and choose with Where",
    "Loop": "export with a fixed number of iterations, which is then unrolled",
    "Scan": "export with a fixed sequence length, which is then unrolled",
    "DeformConv": "use Conv, or GridSample with a constant grid",
    "ImageDecoder": "decode images before the model",
    "ai.onnx.ml.TreeEnsemble": "compile trees with a tool for trees; as tensors, they are Gather and Where",
    "com.microsoft.Attention": "export without fused attention (onnxruntime's optimisation level 1): MatMul, Softmax, MatMul",
    "com.microsoft.MultiHeadAttention": "export without fused attention (onnxruntime's optimisation level 1)",
    "com.microsoft.SkipLayerNormalization": "export without fusion (onnxruntime's optimisation level 1)",
}
"""By operator, with its domain where that is not ONNX's own."""


def advise(operator: str) -> str:
    """The nearest form that compiles; empty where there is none to name."""
    if operator in _ADVICE:
        return _ADVICE[operator]
    domain, _, _ = operator.rpartition(".")
    if domain == "com.microsoft":
        return "save the model without optimising it in onnxruntime, which puts such operators in"
    if domain == "custom":
        return "convert without Flex and custom operators" if operator.startswith("custom.Flex") else _OWN_OPERATOR
    if domain and not domain.startswith("ai.onnx"):
        return f"express it by ONNX's own operators, or give its definition as a function of the model (domain {domain})"
    return ""
