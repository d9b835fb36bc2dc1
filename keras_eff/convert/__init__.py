"""Replaces layers of a whole model, both ways, and reports what was left."""

from keras_eff.convert.ghosts import (
    ghost_batch_normalization as ghost_batch_normalization,
)
from keras_eff.convert.ghosts import (
    plain_batch_normalization as plain_batch_normalization,
)
from keras_eff.convert.report import Report as Report
from keras_eff.convert.sparsity import sparsify as sparsify
from keras_eff.convert.sparsity import strip_sparsity as strip_sparsity
