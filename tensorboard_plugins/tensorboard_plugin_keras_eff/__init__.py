"""The Efficiency tab of TensorBoard."""
