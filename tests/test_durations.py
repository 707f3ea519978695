"""Durations against conversions done by hand."""

import numpy as np
import pytest

from keras_vit_scale.schedules import steps

RUN = {"batch_size": 256, "images": 1000, "total_steps": 370}


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (0, 0),
        (17, 17),
        (np.int64(17), 17),
        ("500 steps", 500),
        ("1 step", 1),
        ("0 steps", 0),
        ("1.2e3 steps", 1200),
        ("16,000,000 steps", 16_000_000),
        ("3B steps", 3_000_000_000),
        ("30 k steps", 30_000),
        ("1.5Msteps", 1_500_000),
        ("256 images", 1),
        ("1,024 images", 4),
        ("383 images", 1),  # 1.496
        ("384 images", 2),  # 1.5
        ("1 image", 1),  # 0.004, but not nothing
        ("1.2e9 images", 4_687_500),
        ("1e-3 images", 1),
        ("2.5 epochs", 10),  # 2500 / 256 = 9.77
        ("1 epoch", 4),  # 3.91
        ("10%", 37),
        ("10 %", 37),
        ("0.1%", 1),  # 0.37, but not nothing
        ("0 %", 0),
        ("50%", 185),
        ("12.5 %", 46),  # 46.25
        ("100%", 370),
        ("  7 steps ", 7),
    ],
)
def test_durations_made_steps_by_hand(duration, expected):
    made = steps(duration, **RUN)
    assert made == expected
    assert type(made) is int


def test_conversion_is_exact_where_floats_are_not():
    # 2^53 + 1 is no float; 0.7 of 10 is 7.000000000000001 in floats of 64 bits.
    assert steps(f"{2**53 + 1} steps") == 2**53 + 1
    assert steps("70%", total_steps=10) == 7
    assert steps("4.35 epochs", images=100, batch_size=435) == 1


@pytest.mark.parametrize(
    ("duration", "given", "message"),
    [
        ("5 images", {"images": 9}, "`batch_size` must be given too.*batch_size=None, images=9"),
        ("5 epochs", {}, "`images` and `batch_size` must be given too"),
        ("5 epochs", {"batch_size": 9}, "To make steps of '5 epochs', `images` must"),
        ("5%", {"batch_size": 9, "images": 9}, "`total_steps` must be given too"),
    ],
)
def test_what_is_missing_is_named(duration, given, message):
    with pytest.raises(ValueError, match=message):
        steps(duration, **given)


@pytest.mark.parametrize(
    ("duration", "error", "message"),
    [
        ("5 epocs", ValueError, "did you mean 'epochs'"),
        ("5 Images", ValueError, "did you mean 'images'"),
        ("5 parsecs", ValueError, r"must be one of \['steps', 'images', 'epochs', '%'\]"),
        ("5", ValueError, "and a unit"),
        ("steps", ValueError, "must be a finite number"),
        ("", ValueError, "must be a finite number"),
        ("-5 steps", ValueError, "not negative"),
        ("inf steps", ValueError, "finite"),
        ("nan epochs", ValueError, "finite"),
        ("1e999 steps", ValueError, "finite"),
        ("1,00 steps", ValueError, "finite number"),
        ("1 2 steps", ValueError, "finite number"),
        ("5 steps 3", ValueError, "finite number"),
        ("100.1%", ValueError, "at most 100 %"),
        ("1 k%", ValueError, "at most 100 %"),
        (-1, ValueError, "must not be negative"),
        (True, TypeError, "must be a whole number of steps or a string.*True"),
        (5.0, TypeError, "5.0"),
        (float("nan"), TypeError, "nan"),
        (None, TypeError, "None"),
    ],
)
def test_what_is_no_duration_is_refused(duration, error, message):
    with pytest.raises(error, match=message):
        steps(duration, **RUN)


@pytest.mark.parametrize("name", ["batch_size", "images", "total_steps"])
@pytest.mark.parametrize("value", [0, -3, 2.5, True, "7"])
def test_what_converts_must_be_positive_and_whole(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be a positive whole number"):
        steps("5 steps", **{name: value})
