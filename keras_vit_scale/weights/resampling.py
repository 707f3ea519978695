"""Resampling what depends on a grid: position embeddings and patch kernels."""

import numpy as np

from keras_vit_scale.checks import check_one_of

#: How positions are resampled: "bilinear" as the authors of ViT do, "bicubic" as timm does.
METHODS = ("bilinear", "bicubic")


def resample_positions(
    embedding: np.ndarray,
    old: tuple[int, int],
    new: tuple[int, int],
    method: str = "bilinear",
) -> np.ndarray:
    """Position embeddings of a grid of patches, interpolated for another grid.

    A position of a [class] token is not one of the grid's: keep it apart.

    Args:
        embedding: (1, rows * columns, D), in row-major order.
        old: Its rows and columns.
        new: The rows and columns wanted, square or not.
        method: "bilinear": the corners stay where they are, as in the authors' code
            (`scipy.ndimage.zoom` of order 1). "bicubic": pixels' areas are
            aligned and shrinking is antialiased, as in timm
            (`resample_abs_pos_embed`).

    Returns:
        (1, rows * columns, D) of the new grid, in the dtype of the old.

    Raises:
        ValueError: If there is no such method, or the embeddings do not fill the
            old grid.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.weights import resample_positions
    >>> line = np.array([[[0.0], [3.0]]])
    >>> resample_positions(line, (1, 2), (1, 4))[0, :, 0]
    array([0., 1., 2., 3.])
    """
    check_one_of(METHODS, method=method)
    if embedding.ndim != 3 or embedding.shape[:2] != (1, old[0] * old[1]):
        raise ValueError(
            "The embeddings must be (1, rows * columns, D) of the old grid. "
            f"Received: shape={embedding.shape}, old={old}"
        )
    if tuple(old) == tuple(new):
        return embedding
    width = embedding.shape[-1]
    grid = embedding.reshape(*old, width)
    if method == "bilinear":
        import scipy.ndimage

        zoom = (new[0] / old[0], new[1] / old[1], 1)
        grid = scipy.ndimage.zoom(grid, zoom, order=1)
    else:
        rows, columns = bicubic_matrix(old[0], new[0]), bicubic_matrix(old[1], new[1])
        grid = np.einsum("ri,cj,ijd->rcd", rows, columns, grid, optimize=True)
    return grid.reshape(1, -1, width).astype(embedding.dtype)


def resample_patches(kernel: np.ndarray, patch_size: int) -> np.ndarray:
    """A patch kernel (P, P, channels, D) for patches of another size.

    Of all kernels of the new size it is the one whose products with patches
    resized (bicubic, antialiased) to that size come closest to those of the old
    kernel with the patches before: equal, where patches grow.

    Source: Beyer et al., "FlexiViT" (arXiv 2212.08013), section 3.4.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.weights import resample_patches
    >>> resample_patches(np.ones((4, 4, 3, 7)), 8).shape
    (8, 8, 3, 7)
    """
    old = kernel.shape[0]
    if old == patch_size:
        return kernel
    # Both axes are resized by B; <B x, w'> = <x, w> for all x asks of each axis that B^T w' = w.
    inverse = np.linalg.pinv(bicubic_matrix(old, patch_size).T)
    new = np.einsum("pi,qj,ijcd->pqcd", inverse, inverse, kernel, optimize=True)
    return new.astype(kernel.dtype)


def bicubic_matrix(old: int, new: int) -> np.ndarray:
    """What resizes a line of `old` values to `new` ones, (new, old): cubic, antialiased.

    Each new value is a mean of the old ones around its centre, weighted by Keys'
    kernel with a = -1/2, which is stretched where the line shrinks.
    """
    scale = old / new
    stretch = max(scale, 1.0)
    centres = (np.arange(new) + 0.5) * scale
    # The kernel ends after two values on each side; whichever lies outside it by half is left out.
    first = np.maximum(np.floor(centres - 2 * stretch + 0.5), 0)
    last = np.minimum(np.floor(centres + 2 * stretch + 0.5), old)
    places = np.arange(old)
    weights = keys_kernel((places + 0.5 - centres[:, None]) / stretch)
    weights *= (places >= first[:, None]) & (places < last[:, None])
    return weights / weights.sum(1, keepdims=True)


def keys_kernel(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    """The cubic convolution kernel of Keys (1981), zero from 2 on."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
