"""A range of training steps, on top of Keras' fit."""

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
    told = _Told(source)
    batches = train_batches(
        told,
        transform,
        batch_size,
        seed=seed,
        start=start,
        stop=stop,
        offset=offset,
        augmentation=augmentation,
        shard=batch_shard(),
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
        # What TensorFlow makes of an item's own; anything else is not about the item, which
        # may lie several batches ahead.
        if told.error is not None and type(error).__module__.startswith("tensorflow"):
            raise told.error from None
        raise
    loss = history.history["loss"][-1]
    check_loss(own_optimizer(model), loss, start, stop)
    return loss


class _Told:
    """A source that remembers what an item raised: on TensorFlow it arrives as another error."""

    def __init__(self, source: Source):
        self.source = source
        self.error: Exception | None = None

    def __getattr__(self, name):
        return getattr(self.source, name)

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        try:
            return self.source[index]
        except Exception as error:
            self.error = error
            raise
