"""The comparison of frameworks: what each computes in a short training, dumped to a file, and two files compared."""
