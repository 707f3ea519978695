"""Judging a representation, the few-shot linear probe; using and judging a finished classifier."""

from keras_vit_scale.evaluation.accepted import (
    AcceptedImages,
    accepted_accuracy,
    evaluate_accepted,
)
from keras_vit_scale.evaluation.bundle import load_classifier, save_classifier
from keras_vit_scale.evaluation.classifier import Classifier
from keras_vit_scale.evaluation.export import ExportCheck, check_export, export_classifier
from keras_vit_scale.evaluation.features import extract_features, representation
from keras_vit_scale.evaluation.fewshot import FewShot, FewShotResult, linear_probe, ridge
from keras_vit_scale.evaluation.imagenet import imagenet_v2, objectnet, real

__all__ = [
    "AcceptedImages",
    "Classifier",
    "ExportCheck",
    "FewShot",
    "FewShotResult",
    "accepted_accuracy",
    "check_export",
    "evaluate_accepted",
    "export_classifier",
    "extract_features",
    "imagenet_v2",
    "linear_probe",
    "load_classifier",
    "objectnet",
    "real",
    "representation",
    "ridge",
    "save_classifier",
]
