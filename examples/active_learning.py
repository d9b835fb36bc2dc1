"""Label 300 handwritten digits, those that teach the most, and train."""

import os

import keras
import numpy as np
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
labelled = ke.data.query(x_train, 100, by="random", seed=0).ids
while len(labelled) < 300:
    proxy = keras.models.clone_model(model)
    proxy.compile("adam", "sparse_categorical_crossentropy")
    proxy.fit(x_train[labelled], y_train[labelled], epochs=20, verbose=0)
    pool = np.setdiff1d(np.arange(len(x_train)), labelled)
    x = x_train[pool]
    chosen = ke.data.query(x, 50, proxy, "margin", embeddings=x, seed=0)
    labelled = np.append(labelled, pool[chosen.ids])
x_train, y_train = x_train[labelled], y_train[labelled]
model.fit(
    x_train,
    y_train,
    batch_size=BATCH_SIZE,
    epochs=EPOCHS,
    callbacks=[decay],
    verbose=2,
)

_, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"test accuracy: {accuracy:.2%}")
