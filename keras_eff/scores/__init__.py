"""Which: scores, one value an item, and the selection of the k best.

A score is a function `tensor -> tensor`. High means large, or hard to learn;
which end is kept is said by the caller and never implied here.
"""

from keras_eff.scores.dynamics import aum as aum
from keras_eff.scores.dynamics import dynamic_uncertainty as dynamic_uncertainty
from keras_eff.scores.dynamics import forgetting as forgetting
from keras_eff.scores.ensembles import bald as bald
from keras_eff.scores.ensembles import vote_entropy as vote_entropy
from keras_eff.scores.geometry import prototype_distance as prototype_distance
from keras_eff.scores.kth_largest import (
    kth_largest_magnitude as kth_largest_magnitude,
)
from keras_eff.scores.kth_largest import num_kept as num_kept
from keras_eff.scores.kth_largest import size_of as size_of
from keras_eff.scores.predictions import classes_of as classes_of
from keras_eff.scores.predictions import el2n as el2n
from keras_eff.scores.predictions import entropy as entropy
from keras_eff.scores.predictions import loss as loss
from keras_eff.scores.predictions import margin as margin
from keras_eff.scores.predictions import two_classes as two_classes
from keras_eff.scores.ranking import keep_largest as keep_largest
from keras_eff.scores.ranking import magnitude as magnitude
from keras_eff.scores.ranking import mix as mix
from keras_eff.scores.ranking import random as random
from keras_eff.scores.ranking import top_k as top_k
