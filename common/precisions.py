"""The precisions of matrix products, in the order of tables: the first is the default, each other one a flag."""

EXPLANATIONS = {
    "fp32": "float32 products",
    "tf32": "tf32 products on a GPU: float32 numbers whose factors are rounded to 10 bits",
    "bf16": "bfloat16 products; LoRA's weights, layer norms and the loss stay float32",
    "fp16": "float16 products; LoRA's weights, layer norms and the loss stay float32, and the loss is scaled",
}
PRECISIONS = tuple(EXPLANATIONS)
DEFAULT_PRECISION = "fp32"
