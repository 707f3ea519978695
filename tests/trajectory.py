"""An optimizer's steps on named arrays with given gradients, without a model."""

import keras
from conftest import as_numpy

STEPS = 12


def variable(value, name, stack_axis=None):
    v = keras.Variable(value, name=name, dtype="float32")
    if stack_axis is not None:
        v.stack_axis = stack_axis
    return v


def trajectory(optimizer, values, gradients, stack_axes):
    """Weights after each step, for named arrays and their gradients."""
    variables = [variable(v, name, stack_axes.get(name)) for name, v in values.items()]
    optimizer.build(variables)
    steps = []
    for step in range(STEPS):
        optimizer.apply([keras.ops.convert_to_tensor(gradients[n][step]) for n in values])
        steps.append([as_numpy(v).copy() for v in variables])
    return steps


def make_case(rng, shapes):
    values = {n: rng.normal(size=s).astype("float32") for n, s in shapes.items()}
    gradients = {
        # Of very different sizes, so that scaling matters.
        n: (rng.normal(size=(STEPS, *s)) * 10.0 ** rng.uniform(-4, 1, size=s)).astype("float32")
        for n, s in shapes.items()
    }
    return values, gradients
