"""The precisions of a run, in the order of tables: the first is the default, each other one a flag."""

EXPLANATIONS = {
    "fp32": "float32 products",
    "tf32": "tf32 products on a GPU: float32 numbers whose factors are rounded to 10 bits",
    "bf16": "bfloat16 products; LoRA's weights, layer norms and the loss stay float32",
    "fp16": "float16 products; LoRA's weights, layer norms and the loss stay float32, and the loss is scaled",
    "fp64": "float64 throughout, in which rounding is too small to part two runs; weights are saved in float32",
}
PRECISIONS = tuple(EXPLANATIONS)
DEFAULT_PRECISION = "fp32"
