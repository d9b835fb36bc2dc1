"""The batch size as a schedule: the callback, and what it is made of."""

from keras_eff.callbacks.batch_size_schedule.schedule import (
    BatchSizeSchedule as BatchSizeSchedule,
)
