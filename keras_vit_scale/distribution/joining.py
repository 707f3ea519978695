"""Joining the processes of a job."""

import keras

from keras_vit_scale.distribution.mesh import check_backend


def initialize(
    addresses: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Joins the processes of a job, before anything else is done with JAX.

    Called without arguments it takes what `keras.distribution.initialize` does: the environment
    variables KERAS_DISTRIBUTION_JOB_ADDRESSES, _NUM_PROCESSES and _PROCESS_ID; without them, what
    JAX finds of SLURM, Open MPI, Kubernetes or a TPU pod.

    Args:
        addresses: Host and port of the first process, or those of all with commas between.
        processes: How many there are.
        process: The number of this one, from 0.

    Raises:
        ValueError: If the backend is not JAX, or it is not known which processes there are.
    """
    check_backend()
    try:
        keras.distribution.initialize(addresses, processes, process)
    except ValueError as error:
        raise ValueError(
            "It must be known which processes train together: from SLURM, Open MPI or a TPU pod, "
            "or from the environment variables KERAS_DISTRIBUTION_JOB_ADDRESSES (host:port of the "
            "first), KERAS_DISTRIBUTION_NUM_PROCESSES and KERAS_DISTRIBUTION_PROCESS_ID. "
            f"Received: {error}"
        ) from error
