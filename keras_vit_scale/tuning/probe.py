"""Few-shot accuracy as what a search looks for."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from keras_vit_scale.checks import check_fractions, check_positive_integers
from keras_vit_scale.data import hold_out, open_source
from keras_vit_scale.evaluation import FewShot, load_classifier
from keras_vit_scale.evaluation.classifier import Classifier
from keras_vit_scale.runs import TrainConfig
from keras_vit_scale.runs.images import open_data


@dataclass(frozen=True)
class Probe:
    """The few-shot linear probe by which the trials of a search are judged.

    Raises:
        ValueError: If a number is out of range.

    Example:

    >>> from keras_vit_scale.tuning import Probe
    >>> Probe(shots=5).seeds
    (0, 1, 2)
    """

    data: str | None = None
    """Images, named as a run's data are; `None` for the run's own validation images."""
    shots: int = 10
    """Examples a class."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Choices of the examples, over which the accuracy is averaged."""
    test_fraction: float = field(default=0.5)
    """Part of the images that is classified; the examples come from the rest."""

    def __post_init__(self):
        check_positive_integers(shots=self.shots)
        check_fractions(test_fraction=self.test_fraction)
        if not self.seeds:
            raise ValueError(f"A probe needs at least one seed. Received: seeds={self.seeds}")

    def opened(self, config: TrainConfig) -> FewShot:
        """The probe of a run.

        Raises:
            ValueError: If the images are those that the run is trained on, or too few.
        """
        if self.data is None:
            source = open_data(config)[1]
            if source is None:
                raise ValueError(
                    "A probe without `data` takes the run's validation images: give one of "
                    f"them. Received: data=None, validation={config.validation}"
                )
        elif self.data == config.data:
            raise ValueError(
                "A probe's images must not be those of the training: leave `data` out, which takes "
                f"the run's validation images, or name others. Received: data={self.data!r}"
            )
        else:
            source = open_source(self.data)
        examples, test = hold_out(source, round(self.test_fraction * len(source)))
        return FewShot(
            examples, test, config.eval_transform(), shots=[self.shots], seeds=self.seeds
        )

    def accuracy(self, config: TrainConfig, judged: Classifier | Path) -> float:
        """Mean accuracy of a run's model, or of the .keras file that holds it."""
        model = load_classifier(judged).model if isinstance(judged, Path) else judged.model
        return float(np.mean([result.accuracy for result in self.opened(config)(model)]))
