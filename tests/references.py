"""Truths in NumPy, written from the papers, one loop at a time."""

import numpy as np


def kth_largest_magnitude(x, k):
    return np.sort(np.abs(np.asarray(x)).ravel())[::-1][k - 1]


def keep_largest(x, sparsity):
    """Top-k by magnitude over the whole tensor; ties keep more (SWAT 1.1)."""
    k = int(np.ceil(np.round((1 - sparsity) * x.size, 9)))
    return np.where(np.abs(x) >= kth_largest_magnitude(x, k), x, 0)


def swat(x, kernel, bias, dy, weight_sparsity, activation_sparsity):
    """Returns y, dx, dkernel, dbias of one SWAT layer for rows x, (n, f)."""
    sparse_kernel = keep_largest(kernel, weight_sparsity)
    sparse_x = keep_largest(x, activation_sparsity)
    y = x @ sparse_kernel + bias
    return y, dy @ sparse_kernel.T, sparse_x.T @ dy, dy.sum(0)


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
