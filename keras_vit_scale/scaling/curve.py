"""Learning curves: the error of one model against images seen, and where it is going."""

from dataclasses import dataclass

import numpy as np

from keras_vit_scale.scaling.law import Law

#: Laws that a curve's prediction is averaged over.
AVERAGED = ("power+floor", "double-saturating", "sigmoidal")


@dataclass(frozen=True)
class AveragedLaw:
    """Several laws of one curve, averaged in log error by what the points say for each.

    Args:
        laws: The laws.
        weights: What each counts; they sum to 1.
    """

    laws: tuple[Law, ...]
    weights: tuple[float, ...]

    def predict(self, compute):
        """Error at one compute (or number of images) or an array of them."""
        return np.exp(
            sum(
                w * np.log(law.predict(compute))
                for w, law in zip(self.weights, self.laws, strict=True)
            )
        )
