"""What XLA does not do well on a GPU, in Pallas: depthwise convolution, and the sums of normalisation's gradient."""
