"""Callbacks that schedule the batch and keep the account of savings."""

from keras_eff.callbacks.batch_size_schedule import (
    BatchSizeSchedule as BatchSizeSchedule,
)
