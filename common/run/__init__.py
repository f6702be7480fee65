"""What the trees' programs call: flags, batches, schedules, the training run, beam search."""
