"""What the ledger costs of an epoch."""

import tempfile

import harness
import keras
import numpy as np

import keras_eff as ke
from keras_eff import demo

BATCH, EPOCHS, COPIES = 128, 5, 20


def main():
    data = ke.datasets.digits()
    x = np.tile(data.x_train, (COPIES, 1))
    y = np.tile(data.y_train, COPIES)
    models = []
    for _ in range(3):
        model = demo.plain_model(data)
        model.compile("sgd", "sparse_categorical_crossentropy")
        models.append(model)

    def fit(model, callbacks):
        model.fit(
            x,
            y,
            batch_size=BATCH,
            epochs=EPOCHS,
            callbacks=callbacks,
            verbose=0,
        )

    def with_files():
        ledger = ke.callbacks.SavingsLedger(tempfile.mkdtemp(), verbose=0)
        fit(models[2], [ledger])

    times = harness.seconds(
        {
            "without": lambda: fit(models[0], [keras.callbacks.Callback()]),
            "with": lambda: fit(
                models[1], [ke.callbacks.SavingsLedger(verbose=0)]
            ),
            "with_files": with_files,
        }
    )
    rows = [
        {
            **{
                f"{name}_ms_an_epoch": 1e3 * t / EPOCHS
                for name, t in times.items()
            },
            "ratio": times["with"] / times["without"],
            "ratio_with_files": times["with_files"] / times["without"],
        }
    ]
    harness.record("savings_ledger", __doc__, rows)


if __name__ == "__main__":
    main()
