"""The recipe on top of Keras' fit: losses and checkpoints."""

from keras_vit_scale.training.losses import SigmoidCrossEntropy

__all__ = ["SigmoidCrossEntropy"]
