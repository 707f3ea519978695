"""A range of training steps, on top of Keras' fit."""

import grain
import keras

from keras_vit_scale.data import Augmentation, Source, TrainTransform, train_batches
from keras_vit_scale.distribution.layouts import batch_shard
from keras_vit_scale.training.callbacks.steps import own_optimizer, steps_done
from keras_vit_scale.training.diverged import check_loss


def train_steps(
    model: keras.Model,
    source: Source,
    transform: TrainTransform,
    *,
    batch_size: int,
    seed: int,
    stop: int,
    offset: int = 0,
    augmentation: Augmentation | None = None,
    workers: int = 0,
    callbacks: list[keras.callbacks.Callback] | None = None,
) -> float | None:
    """Trains a compiled model from its optimizer's step to step `stop`.

    The batches are those of `train_batches` for these steps, so it does not matter
    in how many calls, or processes, a run reaches `stop`.

    Returns:
        The mean loss over the steps, or `None` if there was none to do.

    Raises:
        DivergedError: If that loss is not finite, and the optimizer has skipped no update.
        Exception: What an item of the source raised, such as a `BadImageError`.
    """
    start = steps_done(model)
    if start >= stop:
        return None
    batches = _Told(
        train_batches(
            source,
            transform,
            batch_size,
            seed=seed,
            start=start,
            stop=stop,
            offset=offset,
            augmentation=augmentation,
            shard=batch_shard(),
            workers=workers,
        )
    )
    try:
        history = model.fit(
            batches,
            steps_per_epoch=stop - start,
            shuffle=False,  # the batches are shuffled
            verbose=0,
            callbacks=callbacks,
        )
    except Exception as error:
        # What TensorFlow makes of a batch's own; anything else is not about the batch, which
        # may be read ahead.
        if batches.error is not None and type(error).__module__.startswith("tensorflow"):
            raise batches.error from None
        raise
    loss = history.history["loss"][-1]
    check_loss(own_optimizer(model), loss, start, stop)
    return loss


class _Told(grain.IterDataset):
    """Batches that remember what an image raised: on TensorFlow it arrives as another error."""

    def __init__(self, batches: grain.IterDataset):
        super().__init__(batches)
        self.batches = batches
        self.error: Exception | None = None

    def __iter__(self) -> grain.DatasetIterator:
        return _Telling(self)


class _Telling(grain.DatasetIterator):
    def __init__(self, told: _Told):
        super().__init__()
        self.told, self.batches = told, iter(told.batches)

    def __next__(self):
        try:
            return next(self.batches)
        except StopIteration:
            raise
        except Exception as error:
            self.told.error = error
            raise

    def get_state(self):
        return self.batches.get_state()

    def set_state(self, state):
        self.batches.set_state(state)
