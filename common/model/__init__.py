"""What a model is on disk and in numpy: its sizes, LoRA's arrays, checkpoints of every origin."""
