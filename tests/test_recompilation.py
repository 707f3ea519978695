"""A step is traced and compiled once, whatever schedule, callbacks and epochs do."""

import keras
import pytest
from conftest import TINY

import keras_vit_scale as kvs
from keras_vit_scale.data import (
    EvalTransform,
    Subset,
    TrainTransform,
    digits,
    eval_batches,
    train_batches,
)
from keras_vit_scale.schedules import ReciprocalSqrt
from keras_vit_scale.training import Checkpoints, CSVLog, LearningRate, Norms

BACKEND = keras.backend.backend()


class Counted(kvs.SigmoidCrossEntropy):
    """Counts how often Python runs it: where steps are compiled, once for each that is traced."""

    calls = 0

    def call(self, y_true, y_pred):
        type(self).calls += 1
        return super().call(y_true, y_pred)


@pytest.fixture
def programs():
    """A list that grows with each program that JAX has compiled or found compiled."""
    if BACKEND != "jax":
        yield []
        return
    import jax

    found: list[str] = []
    listening = True

    def listen(event, seconds, **_):
        if listening and event.endswith("backend_compile_duration"):
            found.append(event)

    # JAX 0.8 has no way to let go of it again.
    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    listening = False


class Seen(keras.callbacks.Callback):
    """What had been traced and compiled at the end of each batch and epoch."""

    def __init__(self, programs):
        super().__init__()
        self.programs, self.batches, self.epochs = programs, [], []

    def now(self):
        return Counted.calls, len(self.programs)

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(self.now())

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(self.now())


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch compiles nothing unless it is asked to")
@pytest.mark.parametrize("options", [{}, {"use_ema": True}, {"gradient_accumulation_steps": 2}])
def test_nothing_is_compiled_after_the_first_step(options, programs, tmp_path):
    """Five steps an epoch: no step after the first, and after the first epoch nothing at all."""
    transform = TrainTransform(8, crop="shift", flip=False)
    batches = train_batches(digits(), transform, 16, stop=15)
    held_out = eval_batches(Subset(digits(), range(48)), EvalTransform(8), 16)
    model = kvs.ViT(TINY, 10, image_size=8)
    schedule = ReciprocalSqrt(0.01, warmup_steps=3, timescale=5).with_cooldown(15, 5)
    model.compile(kvs.AdamW(schedule, **options), Counted(), metrics=["accuracy"])
    seen = Seen(programs)
    checkpoints = Checkpoints(tmp_path / "checkpoints", batches, every=4, steps_per_epoch=5)
    callbacks = [
        checkpoints, LearningRate(every=1), Norms(every=2, gradients=False),
        CSVLog(tmp_path / "log.csv", 1), seen,
    ]  # fmt: skip
    model.fit(checkpoints.data, epochs=3, validation_data=held_out, callbacks=callbacks, verbose=0)
    assert len(seen.batches) == 15
    traced = [calls for calls, _ in seen.batches]
    assert traced[0] == traced[4] > 0, traced
    # What callbacks compute at their first turn is compiled then; the second epoch has all of it.
    assert seen.epochs[0] == seen.epochs[1] == seen.epochs[2], seen.epochs
