"""Optimizers that update on a scheduled effective batch."""

from keras_eff.optimizers.scheduled_accumulation import (
    ScheduledAccumulation as ScheduledAccumulation,
)
