"""Score, select and prune training data."""

from keras_eff.data.dynamic import Dynamic as Dynamic
from keras_eff.data.pruning import prune as prune
from keras_eff.data.scoring import score as score
from keras_eff.data.selection import Selection as Selection
from keras_eff.data.selection import select as select
