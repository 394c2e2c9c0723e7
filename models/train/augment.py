"""What a camera does to a picture, done in batches: warp, light, blur, noise, compression.

Owns the exact warp that the gateway repeats (`warp`): homography of the polygon to the inner
rectangle of the square with CONTEXT on each side, each output pixel the mean of 2x2 bilinear taps.
"""
import io

import numpy as np
import torch
from PIL import Image

CONTEXT = 0.15  # of the polygon's side, on each side
MEAN, STD = 0.5, 0.25  # of every colour channel, after division by 255


def inner(size):
    """First and last edge of the polygon's rectangle inside the square."""
    return size * CONTEXT / (1 + 2 * CONTEXT), size * (1 - CONTEXT / (1 + 2 * CONTEXT))


def homographies(polys, size):
    """Maps output pixels to crop pixels: [n, 3, 3] from [n, 4, 2] polygons."""
    low, high = inner(size)
    square = torch.tensor([[low, low], [high, low], [high, high], [low, high]], dtype=torch.float64)
    n = polys.shape[0]
    u, v = square[:, 0].expand(n, 4), square[:, 1].expand(n, 4)
    x, y = polys[..., 0].double(), polys[..., 1].double()
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    rows_x = torch.stack([u, v, one, zero, zero, zero, -u * x, -v * x], -1)
    rows_y = torch.stack([zero, zero, zero, u, v, one, -u * y, -v * y], -1)
    solved = torch.linalg.solve(torch.cat([rows_x, rows_y], 1), torch.cat([x, y], 1))
    return torch.cat([solved, torch.ones(n, 1, dtype=torch.float64)], 1).reshape(n, 3, 3)


def warp(crops, polys, size=64):
    """[n, 3, h, w] in 0..255 and polygons in pixels -> normalised [n, 4, size, size]."""
    n, _, height, width = crops.shape
    taps = (torch.arange(2 * size, dtype=torch.float64) + 0.5) / 2
    v, u = torch.meshgrid(taps, taps, indexing="ij")
    points = torch.stack([u, v, torch.ones_like(u)], -1).reshape(1, -1, 3)
    mapped = points @ homographies(polys, size).transpose(1, 2)
    xy = (mapped[..., :2] / mapped[..., 2:]).float().reshape(n, 2 * size, 2 * size, 2)
    grid = xy / torch.tensor([width, height]) * 2 - 1
    taken = torch.nn.functional.grid_sample(crops, grid, "bilinear", "border", align_corners=False)
    image = torch.nn.functional.avg_pool2d(taken, 2)
    low, high = inner(size)
    at = torch.arange(size) + 0.5
    inside = ((at >= low) & (at < high)).float()
    mask = (inside[:, None] * inside[None, :]).expand(n, 1, size, size)
    return torch.cat([(image / 255 - MEAN) / STD, mask], 1)


def jitter(polys, rng, amount):
    """Corners moved by a share of the polygon's extent, order turned and mirrored."""
    extent = (polys.max(1).values - polys.min(1).values).amax(1)[:, None, None]
    polys = polys + torch.randn(polys.shape, generator=rng) * extent * amount
    turns = torch.randint(0, 4, (len(polys),), generator=rng)
    polys = torch.stack([p.roll(int(t), 0) for p, t in zip(polys, turns)])
    mirror = torch.rand(len(polys), generator=rng) < 0.5
    return torch.where(mirror[:, None, None], polys.flip(1), polys)


def light(images, rng):
    """Gamma, gain, colour cast, grey, night with noise, on 0..255."""
    n = len(images)
    draw = lambda low, high: (torch.rand(n, 1, 1, 1, generator=rng) * (high - low) + low)
    x = (images / 255).clamp(1e-4, 1)
    x = x ** torch.exp(draw(-0.6, 0.6))
    x = x * draw(0.6, 1.3) * (1 + (torch.rand(n, 3, 1, 1, generator=rng) - 0.5) * 0.25)
    night = torch.rand(n, 1, 1, 1, generator=rng) < 0.2
    x = torch.where(night, x * draw(0.12, 0.5), x)
    fog = torch.rand(n, 1, 1, 1, generator=rng) < 0.12
    x = torch.where(fog, x * 0.45 + 0.4 * draw(0.7, 1.2), x)
    grey = torch.rand(n, 1, 1, 1, generator=rng) < 0.15
    x = torch.where(grey, x.mean(1, keepdim=True).expand_as(x), x)
    noise = torch.randn(x.shape, generator=rng) * draw(0.0, 0.05)
    return ((x + noise) * 255).clamp(0, 255)


def soften(images, rng):
    """Lower resolution for part of the batch: as if the camera were further away."""
    n, _, h, w = images.shape
    side = int(torch.randint(14, h, (1,), generator=rng))
    low = torch.nn.functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
    back = torch.nn.functional.interpolate(low, (h, w), mode="bilinear")
    pick = torch.rand(n, 1, 1, 1, generator=rng) < 0.5
    return torch.where(pick, back, images)


def compress(image, quality):
    """JPEG there and back."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def clouds(rng, size, octaves):
    """Fractal noise in 0..1, the raw material of flame and smoke."""
    total, weight = np.zeros((size, size)), 0.0
    for octave in range(octaves):
        cells = 2 ** (octave + 2)
        coarse = Image.fromarray((rng.random((cells, cells)) * 255).astype(np.uint8))
        total += np.asarray(coarse.resize((size, size), Image.BICUBIC), dtype=np.float64) / 255 * 0.6**octave
        weight += 0.6**octave
    return total / weight


def sprite(rng, kind, size=128):
    """One procedural flame or smoke as RGBA."""
    noise = clouds(rng, size, 5)
    y, x = np.mgrid[0:size, 0:size] / size
    if kind == "flame":
        width = 0.12 + 0.25 * y ** rng.uniform(0.6, 1.4)
        shape = 1 - np.abs(x - 0.5 - 0.25 * (noise - 0.5) * (1 - y)) / width
        heat = np.clip(shape * (0.4 + 0.9 * noise) * np.clip((y - 0.05) * 1.6, 0, 1), 0, 1) * np.clip((1 - y) * 8, 0, 1)
        colour = np.stack([255 * np.clip(heat * 3, 0, 1), 255 * np.clip(heat * 2 - 0.25, 0, 1), 200 * np.clip(heat * 2.2 - 1.1, 0, 1)], -1)
        alpha = np.clip(heat * 2.2, 0, 1) * rng.uniform(0.75, 1)
    else:
        spread = 0.1 + (0.5 - 0.2 * rng.random()) * (1 - y)
        body = np.clip(1.2 - np.abs(x - 0.5 - 0.3 * (noise - 0.5)) / spread, 0, 1)
        alpha = body * np.clip(noise * 1.9 - 0.45, 0, 1) * np.clip(y * 4, 0, 1) * np.clip((1 - y) * 10, 0, 1) * rng.uniform(0.55, 1)
        tone = rng.uniform(40, 235) + 40 * (noise - 0.5)
        colour = np.repeat(tone[..., None], 3, -1)
    rgba = np.concatenate([np.clip(colour, 0, 255), alpha[..., None] * 255], -1).astype(np.uint8)
    return Image.fromarray(rgba, "RGBA")
