"""Instance normalisation with the ReLU and the pooling behind it, as one operation that stays in the cache.

PyTorch's ``group_norm`` is slow in the channels-last layout, which convolutions and pooling prefer; its gradient
of a gradient is made of elementary operations that keep a dozen intermediate maps alive; and a ReLU and a pooling
behind it each keep another map. Here one image block after the other is normalised, rectified and pooled while it is
in the cache. Only the input and two numbers for each image and channel are kept, and both derivatives are closed
formulas.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from elf.machine import device as devices

POOL = 2
"""Side of the squares that are averaged, where there is a pooling."""


class InstanceNorm(nn.GroupNorm):
    """Affine instance normalisation, optionally followed by a ReLU and by 2x2 average pooling.

    It has the parameters, the numbers and the state of a GroupNorm with one channel a group, which keeps no running
    statistics and so does the same in training and evaluation (official code of DC and MTT).

    Parameters
    ----------
    channels : int
    relu : bool
        Whether a ReLU follows.
    pool : bool
        Whether then every 2x2 square is replaced by its mean.
    """

    def __init__(self, channels: int, *, relu: bool = False, pool: bool = False) -> None:
        super().__init__(channels, channels, eps=1e-5, affine=True)
        self.relu, self.pool = relu, pool

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise maps of shape (n, channels, height, width), each image and channel by itself.

        Returns
        -------
        Tensor of shape (n, channels, height, width), halved if pooled
        """
        settings = _Settings(self.eps, self.relu, self.pool)
        # What torch.func transforms it does not take through functions of our own; other layouts it has kernels for.
        if torch._C._are_functorch_transforms_active() or not _is_channels_last(maps):
            return _in_elementary_steps(maps, self.weight, self.bias, settings)
        return _Forward.apply(maps.float() if maps.itemsize < 4 else maps, self.weight, self.bias, settings)

    def extra_repr(self) -> str:
        return f"{self.num_channels}, relu={self.relu}, pool={self.pool}"


class _Settings(NamedTuple):
    eps: float
    relu: bool
    pool: bool


def _is_channels_last(maps: Tensor) -> bool:
    return maps.is_contiguous(memory_format=torch.channels_last)


def _in_elementary_steps(maps: Tensor, weight: Tensor, bias: Tensor, settings: _Settings) -> Tensor:
    maps = functional.group_norm(maps, maps.shape[1], weight, bias, settings.eps)
    if settings.relu:
        maps = maps.relu()
    return functional.avg_pool2d(maps, POOL) if settings.pool else maps


# The formulas, for one image and channel with positions p = 1..L and mean() over them:
#     c = x - mean(x),  r = 1 / sqrt(mean(c^2) + eps),  z = w r c + b,  y = max(z, 0)
# With h, the gradient of the loss with respect to z (that of y where z > 0, else 0), and P(h) = h - mean(h) - r^2 c
# mean(h c), the gradient is
#     dx = w r P(h),   dw = sum of h r c,   db = sum of h
# and the gradient of <v, dx> + <u, dw> + <t, db> is, with s = mean(v h) - mean(v) mean(h) - r^2 mean(v c) mean(h c),
#     of h: w r P(v) + u r c + t
#     of w: L r s
#     of x: u r P(h) - w r^2 [r c s + r mean(h c) P(v) + r mean(v c) P(h)]


class _Forward(Function):
    """Maps (n, C, H, W), weight and bias (C,) to normalised maps; differentiable twice."""

    @staticmethod
    def forward(ctx, maps: Tensor, weight: Tensor, bias: Tensor, settings: _Settings) -> Tensor:
        count, channels, height, width = maps.shape
        shrink = POOL if settings.pool else 1
        result = _empty(maps, height // shrink, width // shrink)
        means, scales = maps.new_empty(count, 1, channels), maps.new_empty(count, 1, channels)
        for x, y, mean, scale in _blocks(maps, result, means, scales):
            rows = _rows(x)
            torch.mean(rows, 1, True, out=mean)
            z = torch.sub(rows, mean, out=None if settings.pool else _rows(y))
            variance = (z * z).mean(1, True)
            # Zero times infinity: an overflow must end as NaN, as in PyTorch, and not as maps that are constant.
            torch.addcmul(variance + settings.eps, variance, torch.zeros_like(bias), out=scale).rsqrt_()
            torch.addcmul(bias, z, weight * scale, out=z)
            if settings.relu:
                z.clamp_min_(0)
            if settings.pool:
                torch.ops.aten.avg_pool2d.out(_maps(z, x), [POOL, POOL], out=y)
        ctx.save_for_backward(maps, weight, bias, means, scales)
        ctx.settings = settings
        return result

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *_Backward.apply(gradient, *ctx.saved_tensors, ctx.settings), None


class _Backward(Function):
    """Gradients with respect to maps, weight and bias; differentiable once more."""

    @staticmethod
    def forward(
        ctx,
        gradient: Tensor,
        maps: Tensor,
        weight: Tensor,
        bias: Tensor,
        means: Tensor,
        scales: Tensor,
        settings: _Settings,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(gradient, maps, weight, bias, means, scales)
        ctx.settings = settings
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_maps, of_weight, of_bias = torch.empty_like(maps), torch.empty_like(means), torch.empty_like(means)
        for g, x, r, mean, *out in _blocks(gradient, maps, scales, means, of_maps, of_weight, of_bias):
            c = _rows(x) - mean
            h = _behind_relu(g, x, c, weight * r, bias, settings)
            h_mean = torch.mean(h, 1, True, out=out[2])
            hc = torch.mean(h * c, 1, True, out=out[1])
            of_x = torch.addcmul(-weight * r * h_mean, h, weight * r, out=_rows(out[0]))
            of_x.addcmul_(c, -weight * r**3 * hc)
        positions = maps.shape[2] * maps.shape[3]
        return of_maps, (of_weight * scales).sum((0, 1)) * positions, of_bias.sum((0, 1)) * positions

    @staticmethod
    @once_differentiable
    def backward(ctx, v: Tensor, u: Tensor, t: Tensor) -> tuple[Tensor | None, ...]:
        gradient, maps, weight, bias, means, scales = ctx.saved_tensors
        gradient, v = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (gradient, v))
        of_gradient, of_maps, of_weight = torch.empty_like(gradient), torch.empty_like(maps), torch.empty_like(means)
        for g, x, v_maps, r, mean, *out in _blocks(gradient, maps, v, scales, means, of_gradient, of_maps, of_weight):
            c, v_rows = _rows(x) - mean, _rows(v_maps)
            h = _behind_relu(g, x, c, weight * r, bias, ctx.settings)
            h_mean, v_mean, hc, vc = (term.mean(1, True) for term in (h, v_rows, h * c, v_rows * c))
            s = (v_rows * h).mean(1, True) - v_mean * h_mean - r**2 * vc * hc
            torch.mul(r, s, out=out[2])
            constant = weight * r**3 * (hc * v_mean + vc * h_mean) - u * r * h_mean
            of_x = torch.addcmul(constant, v_rows, -weight * r**3 * hc)
            of_x.addcmul_(h, u * r - weight * r**3 * vc)
            torch.addcmul(of_x, c, weight * (2 * r**5 * hc * vc - r**3 * s) - u * r**3 * hc, out=_rows(out[1]))
            of_h = torch.addcmul(t - weight * r * v_mean, v_rows, weight * r).addcmul_(c, u * r - weight * r**3 * vc)
            _before_relu(of_h, x, c, weight * r, bias, ctx.settings, out[0])
        positions = maps.shape[2] * maps.shape[3]
        return of_gradient, of_maps, of_weight.sum((0, 1)) * positions, None, None, None, None


def _behind_relu(g: Tensor, x: Tensor, c: Tensor, scale: Tensor, bias: Tensor, settings: _Settings) -> Tensor:
    """Return the gradient before the ReLU, in rows, from the one behind ReLU and pooling."""
    if settings.pool:
        g = torch.ops.aten.avg_pool2d_backward(g, x, [POOL, POOL], [], [0, 0], False, True, None)
    if not settings.relu:
        return _rows(g)
    return torch.ops.aten.threshold_backward(_rows(g), torch.addcmul(bias, c, scale), 0)


def _before_relu(
    of_h: Tensor, x: Tensor, c: Tensor, scale: Tensor, bias: Tensor, settings: _Settings, out: Tensor
) -> None:
    """Write the transpose of :func:`_behind_relu`, applied to rows, into maps."""
    if settings.relu:
        of_h = torch.ops.aten.threshold_backward(of_h, torch.addcmul(bias, c, scale), 0)
    if settings.pool:
        torch.ops.aten.avg_pool2d.out(_maps(of_h, x), [POOL, POOL], out=out)
    else:
        _rows(out).copy_(of_h)


def _blocks(first: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield matching blocks of images of tensors, small enough for the cache."""
    largest = max((first, *others), key=Tensor.numel)
    images = max(1, devices.bytes_per_block(first.device) * len(largest) // max(1, largest.nbytes))
    return zip(*(tensor.split(images) for tensor in (first, *others)), strict=True)


def _empty(maps: Tensor, height: int, width: int) -> Tensor:
    shape = (*maps.shape[:2], height, width)
    return torch.empty(shape, dtype=maps.dtype, device=maps.device, memory_format=torch.channels_last)


def _rows(maps: Tensor) -> Tensor:
    """Return a view of channels-last maps of shape (n, positions, C)."""
    count, channels = maps.shape[:2]
    return maps.permute(0, 2, 3, 1).view(count, -1, channels)


def _maps(rows: Tensor, like: Tensor) -> Tensor:
    """Return rows as a view of the shape of channels-last maps."""
    count, channels, height, width = like.shape
    return rows.view(count, height, width, channels).permute(0, 3, 1, 2)
