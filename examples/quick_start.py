"""A ViT-S/16 compiled, fitted, evaluated, saved and loaded, on real images that need no download.

    python examples/quick_start.py

The images are scikit-learn's digits, enlarged from 8 to 32 pixels; a folder of yours is
`ImageFolder("photos")` in their place. Some minutes on two cores.
"""

import argparse
import math

import keras
import numpy as np

import keras_vit_scale as kvs
from keras_vit_scale.data import (
    EvalTransform,
    TrainTransform,
    digits,
    eval_batches,
    hold_out,
    train_batches,
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=64)
    arguments = parser.parse_args()
    steps, batch_size = arguments.steps, arguments.batch_size

    keras.utils.set_random_seed(0)
    train, test = hold_out(digits(), 397)
    # The head's bias at first is the log-odds of one class among ten.
    model = kvs.ViT_S16(num_classes=10, image_size=32, head_bias=-2.2)
    model.compile(
        optimizer=kvs.AdamW(
            kvs.ReciprocalSqrt(
                3e-4,
                warmup_steps=steps // 10,
                total_steps=steps,
                cooldown_steps=steps // 3,
            ),
            weight_decay=1e-2,
            global_clipnorm=1.0,
        ),
        loss=kvs.SigmoidCrossEntropy(),
        metrics=["accuracy"],
    )
    batches = train_batches(
        train, TrainTransform(32, crop="shift", flip=False, max_shift=4), batch_size
    )
    model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=2)

    held_out = EvalTransform(32, resize="none")
    # Told how many batches there are, Keras does not warn that they end.
    results = model.evaluate(
        eval_batches(test, held_out, batch_size),
        steps=math.ceil(len(test) / batch_size),
        return_dict=True,
        verbose=0,
    )
    print(f"{len(test)} images that it has not seen: accuracy {results['accuracy']:.3f}")

    model.save("vit.keras")
    loaded = keras.saving.load_model("vit.keras")
    images, labels = next(iter(eval_batches(test, held_out, 8)))
    print("labels:   ", labels.tolist())
    print("predicted:", np.argmax(loaded.predict(images, verbose=0), axis=-1).tolist())


if __name__ == "__main__":
    main()
