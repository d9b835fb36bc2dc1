"""Which: scores, one value an item, and the selection of the k best.

A score is a function `tensor -> tensor`. High means large, or hard to learn;
which end is kept is said by the caller and never implied here.
"""

from keras_eff.scores.kth_largest import (
    kth_largest_magnitude as kth_largest_magnitude,
)
from keras_eff.scores.kth_largest import num_kept as num_kept
from keras_eff.scores.kth_largest import size_of as size_of
from keras_eff.scores.predictions import el2n as el2n
from keras_eff.scores.ranking import keep_largest as keep_largest
from keras_eff.scores.ranking import magnitude as magnitude
from keras_eff.scores.ranking import top_k as top_k
