"""Pallas kernels for what XLA does slowly on a GPU: depthwise convolution and the sums of normalisation's gradient."""
