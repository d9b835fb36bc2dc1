"""The ledger's event file: what TensorBoard reads."""

import contextlib
import json
import os
import pathlib

import tensorflow as tf
from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.scalar.summary_v2 import scalar_pb

from keras_eff.savings import Saving
from keras_eff.savings import Total

# Also read by tensorboard_plugin_keras_eff, which imports nothing from here.
PLUGIN_NAME = "keras_eff"
MANIFEST_SCHEMA = 1


class SavingsEvents:
    """Writes totals as plain scalars to `<log_dir>/efficiency`.

    A directory of its own: two writers in one directory lose data under
    TensorBoard's Python loader.

    Args:
        log_dir: path of the run.
    """

    FOLDER = "efficiency"

    def __init__(self, log_dir: str | os.PathLike):
        path = pathlib.Path(log_dir) / self.FOLDER
        self._writer = tf.summary.create_file_writer(str(path))

    def write_manifest(
        self,
        techniques: list[str],
        basis: dict[str, str],
        metrics: list[str],
        **entries: str,
    ) -> None:
        """Writes once, for the plugin, what the numbers mean.

        Args:
            techniques: list of the techniques in use.
            basis: dictionary quantity -> on what its number rests.
            metrics: list of the names of the quality metrics so far.
            **entries: further entries of the manifest.
        """
        manifest = {
            "schema": MANIFEST_SCHEMA,
            "techniques": techniques,
            "basis": basis,
            "quality": _directions(metrics),
            **entries,
        }
        with self._recording():
            tf.summary.write(
                f"{PLUGIN_NAME}/manifest",
                json.dumps(manifest),
                step=0,
                metadata=tf.compat.v1.SummaryMetadata(
                    plugin_data={"plugin_name": PLUGIN_NAME},
                    data_class="DATA_CLASS_TENSOR",
                ),
            )

    def write(
        self,
        step: int,
        totals: dict[str, Total],
        techniques: dict[tuple[str, str], Saving],
        quality: dict[str, float],
    ) -> None:
        """Writes one point of every series.

        Args:
            step: integer, updates so far.
            totals: dictionary quantity -> `Total`, cumulative.
            techniques: dictionary (technique, unit) -> `Saving`.
            quality: dictionary metric name -> value.
        """
        tags = {f"keras_eff/quality/{name}": v for name, v in quality.items()}
        for quantity, total in totals.items():
            for field in ("used", "planned", "saved_pct"):
                tags[f"keras_eff/{quantity}/{field}"] = getattr(total, field)
        for (technique, unit), saving in techniques.items():
            for field in ("baseline", "actual"):
                tag = f"keras_eff_techniques/{technique}/{unit}/{field}"
                tags[tag] = getattr(saving, field)
        # All series in one write: twenty calls of `tf.summary.scalar` took
        # 20 ms an epoch.
        point = summary_pb2.Summary()
        for tag, value in tags.items():
            if value is not None:
                point.MergeFrom(scalar_pb(tag, value))
        with self._recording():
            tf.summary.experimental.write_raw_pb(
                point.SerializeToString(), step=step
            )
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()

    def _recording(self):
        stack = contextlib.ExitStack()
        stack.enter_context(self._writer.as_default())
        # Keras' TensorBoard callback with an integer `update_freq` mutes all
        # summaries of other callbacks (tensorboard#4975).
        stack.enter_context(tf.summary.record_if(True))
        return stack


# Words of metric names that tell whether more or less is better.
_LESS = {"loss", "error", "mae", "mape", "mse", "msle", "rmse", "perplexity"}
_MORE = {"acc", "accuracy", "auc", "f1", "iou", "precision", "recall"}


def _directions(metrics: list[str]) -> dict[str, str]:
    # An epoch without validation may come first: its names are known already.
    names = {name.removeprefix("val_") for name in metrics}
    names |= {f"val_{name}" for name in names}
    known = {name: _direction(name) for name in sorted(names)}
    return {name: which for name, which in known.items() if which}


def _direction(metric: str) -> str | None:
    words = set(metric.lower().split("_"))
    if words & _LESS:
        return "min"
    return "max" if words & _MORE else None
