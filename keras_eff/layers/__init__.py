"""Layers that stand in for a Keras layer and cost less, or generalize more."""

from keras_eff.layers.ghost_batch_normalization import (
    GhostBatchNormalization as GhostBatchNormalization,
)
from keras_eff.layers.sparse_dense import SparseDense as SparseDense
