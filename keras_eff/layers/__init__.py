"""Layers that stand in for a Keras layer and cost less, or generalize more."""

from keras_eff.layers.ghost_batch_normalization import (
    GhostBatchNormalization as GhostBatchNormalization,
)
from keras_eff.layers.sparse_conv import SparseConv1D as SparseConv1D
from keras_eff.layers.sparse_conv import SparseConv2D as SparseConv2D
from keras_eff.layers.sparse_dense import SparseDense as SparseDense
from keras_eff.layers.sparse_einsum_dense import (
    SparseEinsumDense as SparseEinsumDense,
)
from keras_eff.layers.sparsity_report import sparsity_report as sparsity_report
