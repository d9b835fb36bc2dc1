"""Train a network on handwritten digits, growing the batch."""

import os

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_eff as ke

EPOCHS = int(os.environ.get("KERAS_EFF_EPOCHS", "40"))
BATCH_SIZE = 32
LEARNING_RATE = 0.05

keras.utils.set_random_seed(0)

images, labels = load_digits(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(
    (images / 16).astype("float32"),  # gray levels 0 to 16
    labels,
    test_size=0.25,
    stratify=labels,
    random_state=0,
)


def learning_rate(epoch):
    num_drops = (epoch >= EPOCHS // 2) + (epoch >= EPOCHS * 3 // 4)
    return LEARNING_RATE / 5**num_drops


model = keras.Sequential(
    [
        keras.Input((64,)),
        keras.layers.Dense(128),
        keras.layers.BatchNormalization(),
        keras.layers.ReLU(),
        keras.layers.Dense(128),
        keras.layers.BatchNormalization(),
        keras.layers.ReLU(),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile(
    optimizer=keras.optimizers.SGD(LEARNING_RATE, momentum=0.9),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
)
schedule = ke.callbacks.BatchSizeSchedule.from_learning_rate(
    learning_rate,
    BATCH_SIZE,
    # Beyond a tenth of the examples the learning rate decays instead.
    max_batch_size=len(x_train) // 10,
)
ledger = ke.callbacks.SavingsLedger(sources=[schedule])
model.fit(
    schedule.batch((x_train, y_train)),
    epochs=EPOCHS,
    callbacks=[schedule, ledger],
    verbose=2,
)

_, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"test accuracy: {accuracy:.2%}")
