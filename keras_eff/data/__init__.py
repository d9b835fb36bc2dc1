"""Score, select and prune training data; choose what to label."""

from keras_eff.data.active import query as query
from keras_eff.data.compare import compare as compare
from keras_eff.data.comparison import Comparison as Comparison
from keras_eff.data.dedup import dedup as dedup
from keras_eff.data.dedup import duplicate_curve as duplicate_curve
from keras_eff.data.dynamic import Dynamic as Dynamic
from keras_eff.data.embedding import embed as embed
from keras_eff.data.example_scores import ExampleScores as ExampleScores
from keras_eff.data.filter_report import FilterReport as FilterReport
from keras_eff.data.filters import Filter as Filter
from keras_eff.data.fingerprint import Fingerprint as Fingerprint
from keras_eff.data.members import MonteCarloDropout as MonteCarloDropout
from keras_eff.data.policies import select as select
from keras_eff.data.prototypes import prototypes as prototypes
from keras_eff.data.pruning import prune as prune
from keras_eff.data.scoring import score as score
from keras_eff.data.selection import Selection as Selection
from keras_eff.data.training_dynamics import (
    TrainingDynamics as TrainingDynamics,
)
