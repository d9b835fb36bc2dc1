"""Train a network on the handwritten digits that are hard."""

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


decay = keras.callbacks.LearningRateScheduler(learning_rate)

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
# A short training tells hard examples from easy ones.
proxy = keras.models.clone_model(model)
proxy.compile("adam", "sparse_categorical_crossentropy")
proxy_ledger = ke.callbacks.SavingsLedger(verbose=0)
proxy.fit(x_train, y_train, epochs=3, callbacks=[proxy_ledger], verbose=0)
scores = ke.data.score((x_train, y_train), by="el2n", model=proxy, verbose=0)
cost = proxy_ledger.cost("pruning")  # `scores` bring their own
kept = ke.data.select(scores, keep=0.8, labels=y_train, cost=cost)
x_train, y_train = ke.data.prune(kept)((x_train, y_train))
ledger = ke.callbacks.SavingsLedger(sources=[kept])
model.fit(
    x_train,
    y_train,
    batch_size=BATCH_SIZE,
    epochs=EPOCHS,
    callbacks=[decay, ledger],
    verbose=2,
)

_, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"test accuracy: {accuracy:.2%}")
