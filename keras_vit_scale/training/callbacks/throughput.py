"""How fast a model trains, and how near that is to what its devices could do."""

import keras

from keras_vit_scale.checks import check_positive, check_positive_integers
from keras_vit_scale.models import architecture
from keras_vit_scale.planning import forward_flops, this_accelerator, training_flops
from keras_vit_scale.training.callbacks.steps import StepCallback, steps_done
from keras_vit_scale.types import Logs


def vit_training_flops(model: keras.Model) -> float | None:
    """FLOPs of training a model made by `ViT` on one image; `None` for any other model.

    Example:

    >>> from keras_vit_scale import ViT
    >>> from keras_vit_scale.planning import forward_flops
    >>> from keras_vit_scale.models import preset
    >>> from keras_vit_scale.training.callbacks.throughput import vit_training_flops
    >>> model = ViT("mu/8", 10, image_size=16)
    >>> forward = forward_flops(preset("mu/8"), 16, pooling="map", num_classes=10)
    >>> vit_training_flops(model) / forward
    3.0
    """
    try:
        found = architecture(model)
    except ValueError:
        return None
    forward = forward_flops(
        found.config,
        found.image_size,
        pooling=found.pooling,
        num_classes=found.num_classes,
    )
    return training_flops(forward, 1)


def peak_of_devices(model: keras.Model) -> float | None:
    """Peak FLOP/s of the devices a model trains on together, for the type it computes in.

    `None` if the device is unknown, publishes no peak for the type, or the layers
    with weights compute in several types.
    """
    device = this_accelerator()
    dtypes = {layer.compute_dtype for layer in model.layers if layer.weights}
    if device is None or len(dtypes) != 1:
        return None
    peak = device.peak(*dtypes)
    return None if peak is None else peak * _devices(model)


def _devices(model):
    distribution = keras.distribution.distribution()
    if distribution is not None:
        return distribution.device_mesh.devices.size
    if keras.backend.backend() == "tensorflow":
        return model.distribute_strategy.num_replicas_in_sync
    return 1


class Throughput(StepCallback):
    """Adds the speed of training to `logs` every N steps, as a mean over those steps.

    "images_per_second" counts the images of all devices. "fraction_of_peak" is the
    FLOPs that these images need by arithmetic (rematerialised ones are not counted)
    over what the devices could do at their published peak, often called MFU; it is
    there only if both are known.

    Left out of the time: the first step of a compiled function, in which it is
    compiled; whatever `StepCallback`s do; validation by `fit`. Not left out: waiting
    for data, and other callbacks. The last batch of an epoch counts as a whole one.

    Args:
        every: N, in steps; that of the logger after it.
        batch_size: Images a step, over all devices. By default what the loss of the
            model counted in its first step.
        flops_per_image: FLOPs of training on one image; by default those of a model
            made by `ViT`, as three forward passes, and unknown for others.
        peak_flops: FLOP/s of all devices; by default what the maker publishes, for the
            type that the model computes in, and unknown where `this_accelerator` is.

    Raises:
        ValueError: If an argument is not positive; when training begins, if the batch
            size cannot be known.

    Example:

    >>> from keras_vit_scale.training import Throughput
    >>> throughput = Throughput(every=100, flops_per_image=3 * 17.6e9, peak_flops=8 * 312e12)
    """

    def __init__(
        self,
        every: int,
        *,
        batch_size: int | None = None,
        flops_per_image: float | None = None,
        peak_flops: float | None = None,
    ):
        super().__init__(every)
        if batch_size is not None:
            check_positive_integers(batch_size=batch_size)
        for name, value in {"flops_per_image": flops_per_image, "peak_flops": peak_flops}.items():
            if value is not None:
                check_positive(**{name: value})
        self.batch_size = batch_size
        self.flops_per_image, self.peak_flops = flops_per_image, peak_flops

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        model = self.model
        self._images_a_step = self.batch_size
        if self.batch_size is None and _loss_counter(model) is None:
            raise ValueError(
                "`batch_size` must be given where the model's loss does not count its examples. "
                f"Received: batch_size=None, a model with metrics {[m.name for m in model.metrics]}"
            )
        flops = self.flops_per_image or vit_training_flops(model)
        peak = self.peak_flops or peak_of_devices(model)
        self._peak_images = peak / flops if flops and peak else None
        self._function = self._window = None
        self._tested = 0.0

    def between_steps(self, logs: Logs) -> None:
        # A new function is compiled in its first step, at whose end a window begins.
        function = self._model.train_function
        if function is not self._function:
            self._function, self._window = function, None
        elif self._window is None:
            self.recount()
            self._open()
        super().between_steps(logs)

    def on_test_begin(self, logs=None):
        if self._in_training():
            steps_done(self.model)  # waits for the device
            self._test_began = self.now()

    def on_test_end(self, logs=None):
        if self._in_training():
            self._tested += self.now() - self._test_began

    def on_step(self, step: int, logs: Logs) -> None:
        if self._window is None:
            return
        then, before, elsewhere = self._window
        seconds = self.now() - then - (self._elsewhere() - elsewhere)
        if step > before and seconds > 0:
            rate = (step - before) * self._images_a_step / seconds
            logs["images_per_second"] = rate
            if self._peak_images is not None:
                logs["fraction_of_peak"] = rate / self._peak_images
        self._open()

    def _open(self):
        if self._images_a_step is None:
            self._images_a_step = self._counted_batch()
        self._window = self.now(), self.step, self._elsewhere()

    def _elsewhere(self):
        return StepCallback.seconds_in_callbacks + self._tested

    def _in_training(self):
        return getattr(self, "_function", None) is not None

    def _counted_batch(self):
        images = float(keras.ops.convert_to_numpy(_loss_counter(self.model).value))
        steps = self.step - self._epoch_start
        if not steps or images % steps:
            raise ValueError(
                "`batch_size` must be given where batches differ in size. "
                f"Received: batch_size=None, {images:g} images in {steps} steps"
            )
        return int(images // steps)


def _loss_counter(model):
    """The variable in which a model's mean loss counts the examples of an epoch, if it does."""
    loss = next((m for m in model.metrics if m.name == "loss"), None)
    return getattr(loss, "count", None)
