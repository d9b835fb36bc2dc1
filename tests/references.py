"""Truths in NumPy, written from the papers, one loop at a time."""

import numpy as np


def kth_largest_magnitude(x, k):
    return np.sort(np.abs(np.asarray(x)).ravel())[::-1][k - 1]


def keep_largest(x, sparsity):
    """Top-k by magnitude over the whole tensor; ties keep more (SWAT 1.1)."""
    k = int(np.ceil(np.round((1 - sparsity) * x.size, 9)))
    return np.where(np.abs(x) >= kth_largest_magnitude(x, k), x, 0)


def keep_slices(kernel, sparsity):
    """Top-k of the slices w[..., i, o] by their L1 norm (SWAT, structured)."""
    norms = np.zeros(kernel.shape[-2:], kernel.dtype)
    for position in np.ndindex(kernel.shape[:-2]):
        norms += np.abs(kernel[position])
    return np.where(keep_largest(norms, sparsity) > 0, kernel, 0)


def largest_channels(x, axis, sparsity):
    """The channels with the largest L1 norms; of equal ones the first."""
    rows = np.moveaxis(x, axis, 0)
    norms = [np.abs(row).sum() for row in rows]
    k = int(np.ceil(np.round((1 - sparsity) * len(rows), 9)))
    return sorted(np.argsort(-np.array(norms), kind="stable")[:k].tolist())


def keep_channels(x, axis, sparsity):
    kept = np.zeros_like(np.moveaxis(x, axis, 0))
    for channel in largest_channels(x, axis, sparsity):
        kept[channel] = np.moveaxis(x, axis, 0)[channel]
    return np.moveaxis(kept, 0, axis)


def swat(x, kernel, bias, dy, weight_sparsity, activation_sparsity):
    """Returns y, dx, dkernel, dbias of one SWAT layer for rows x, (n, f)."""
    sparse_kernel = keep_largest(kernel, weight_sparsity)
    sparse_x = keep_largest(x, activation_sparsity)
    y = x @ sparse_kernel + bias
    return y, dy @ sparse_kernel.T, sparse_x.T @ dy, dy.sum(0)


def sparse_operation(
    operation, x, kernel, dy, sparsities, granularity, axes=(-1, -2)
):
    """Returns y, dx, dkernel of SWAT for any bilinear operation.

    `operation` is (forward, gradient by inputs, gradient by kernel). `axes`
    are those of the input channels, in inputs and kernel.
    """
    of_weights, of_activations = sparsities
    if granularity == "channel":
        sparse_kernel = keep_channels(kernel, axes[1], of_weights)
        sparse_x = keep_channels(x, axes[0], of_activations)
    else:
        keep = keep_slices if granularity == "kernel" else keep_largest
        sparse_kernel = keep(kernel, of_weights)
        sparse_x = keep_largest(x, of_activations)
    # Selected as given, calculated in full precision.
    x, sparse_kernel, sparse_x, dy = (
        np.asarray(a, "float64") for a in (x, sparse_kernel, sparse_x, dy)
    )
    forward, of_inputs, of_kernel = operation
    return (
        forward(x, sparse_kernel),
        of_inputs(dy, sparse_kernel),
        of_kernel(sparse_x, dy),
    )


def einsum(equation, ndim):
    """The operation of an equation, for inputs with so many axes."""
    factors, result = equation.split("->")
    left, right = factors.split(",")
    unnamed = "xyz"[: ndim - len(left.replace("...", ""))]
    left, result = (s.replace("...", unnamed) for s in (left, result))
    return (
        lambda x, w: np.einsum(f"{left},{right}->{result}", x, w),
        lambda dy, w: np.einsum(f"{result},{right}->{left}", dy, w),
        lambda x, dy: np.einsum(f"{left},{result}->{right}", x, dy),
    )


def convolution(size, kernel_shape, strides, padding, dilations, groups):
    """The operation of a convolution of images of a size, channels last."""
    *window, channels, filters = kernel_shape
    reach = [d * (k - 1) for d, k in zip(dilations, window, strict=True)]
    if padding == "same":
        out = [-(-n // s) for n, s in zip(size, strides, strict=True)]
        total = [
            max((o - 1) * s + r + 1 - n, 0)
            for o, s, r, n in zip(out, strides, reach, size, strict=True)
        ]
        before = [t // 2 for t in total]
    else:
        total = reach if padding == "causal" else [0] * len(size)
        before = total
        out = [
            (n + t - r - 1) // s + 1
            for n, t, r, s in zip(size, total, reach, strides, strict=True)
        ]
    widths = [(b, t - b) for b, t in zip(before, total, strict=True)]
    padded_size = [n + t for n, t in zip(size, total, strict=True)]
    inner = [slice(b, b + n) for b, n in zip(before, size, strict=True)]
    members = filters // groups

    def windows():
        """Each place of the kernel with the entries that it meets."""
        for place in np.ndindex(*window):
            met = [
                slice(p * d, p * d + (o - 1) * s + 1, s)
                for p, d, o, s in zip(
                    place, dilations, out, strides, strict=True
                )
            ]
            yield place, (slice(None), *met)

    def group(index):
        ours = slice(index * channels, (index + 1) * channels)
        return ours, slice(index * members, (index + 1) * members)

    def forward(x, w):
        x = np.pad(x, [(0, 0), *widths, (0, 0)])
        y = np.zeros((len(x), *out, filters))
        for place, met in windows():
            for index in range(groups):
                i, o = group(index)
                y[..., o] += x[met][..., i] @ w[place][:, o]
        return y

    def of_inputs(dy, w):
        dx = np.zeros((len(dy), *padded_size, channels * groups))
        for place, met in windows():
            for index in range(groups):
                i, o = group(index)
                dx[met][..., i] += dy[..., o] @ w[place][:, o].T
        return dx[(slice(None), *inner)]

    def of_kernel(x, dy):
        x = np.pad(x, [(0, 0), *widths, (0, 0)])
        dw = np.zeros(kernel_shape)
        for place, met in windows():
            for index in range(groups):
                i, o = group(index)
                rows = x[met][..., i].reshape(-1, channels)
                dw[place][:, o] += rows.T @ dy[..., o].reshape(-1, members)
        return dw

    return forward, of_inputs, of_kernel


def ghost_sizes(batch, ghost):
    """Even contiguous groups, none of one example unless the batch is one."""
    wanted = int(np.floor(batch / ghost + 0.5))
    groups = max(1, min(wanted, batch // 2))
    size, larger = divmod(batch, groups)
    return [size + 1] * larger + [size] * (groups - larger)


def ghost_batch_normalization(
    x, ghost, gamma, beta, moving_mean, moving_variance, momentum, epsilon
):
    """Returns y and the moving statistics; x is (batch, ..., channels)."""
    y, start = np.empty_like(x), 0
    for size in ghost_sizes(len(x), ghost):
        group = x[start : start + size]
        axes = tuple(range(group.ndim - 1))
        mean, variance = group.mean(axes), group.var(axes)
        scale = gamma / np.sqrt(variance + epsilon)
        y[start : start + size] = (group - mean) * scale + beta
        moving_mean = momentum * moving_mean + (1 - momentum) * mean
        moving_variance = momentum * moving_variance + (1 - momentum) * variance
        start += size
    return y, moving_mean, moving_variance


def moving_statistic(moving, groups, momentum, update):
    """Returns the moving average after one step of ghosts."""
    if update == "mean":
        groups = [np.mean(groups, axis=0)]
    if update == "scaled":
        momentum **= 1 / len(groups)
    for group in groups:
        moving = momentum * moving + (1 - momentum) * group
    return moving


def el2n(probabilities, labels):
    errors = []
    for row, label in zip(probabilities, labels, strict=True):
        target = np.zeros(len(row))
        target[label] = 1
        errors.append(np.sqrt(((row - target) ** 2).sum()))
    return np.array(errors)
