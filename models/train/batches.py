"""What a camera may show, made in large batches on one device: crops of bays, tiles with and without fire.

Owns augmentation for training: geometry, light, weather, compression, composites of flame and smoke out of
`banks.py`, and decoys that must not alarm. Every draw comes from torch's own generator, seeded by train.py.
Pictures are 0..1, `[n, 3, size, size]`. All that is linear along rows and columns (blur, scaling, the
cosines of JPEG) is a matrix product, and all of light is one 3x3 matrix a picture: on a GPU, passes over memory
are what a batch costs. No step waits for the GPU's answer.
"""
import functools
import math

import torch
from torch.nn import functional as F

import augment
import banks


def uniform(like, low, high, *shape):
    return torch.rand(*shape, device=like.device) * (high - low) + low


def some(like, share):
    """A mask over the batch: true with this probability."""
    return (torch.rand(len(like), device=like.device) < share)[:, None, None, None]


# --- what a camera does ------------------------------------------------------------------------

def spread(size, to):
    """The matrix that scales `size` pixels to `to`, each the mean of what it covers."""
    scale = size / to
    reach = max(scale, 1.0)
    centre = (torch.arange(to, dtype=torch.float64)[:, None] + 0.5) * scale
    weight = (1 - (torch.arange(size, dtype=torch.float64)[None] + 0.5 - centre).abs() / reach).clamp(min=0)
    return weight / weight.sum(1, keepdim=True)


@functools.cache
def scaling(size, to, device, kind):
    return spread(size, to).to(device, kind)


def resized(x, to):
    m = scaling(x.shape[-1], to, x.device, x.dtype)
    return m @ (x @ m.T)


@functools.cache
def blurs(size, smallest, device, kind):
    """What a camera further away, or out of focus, does along one axis: `[24, size, size]`; the first do little."""
    sides = [round(size * (smallest / size) ** (i / 23)) for i in range(24)]
    return torch.stack([spread(s, size) @ spread(size, s) for s in sides]).to(device, kind)


def soften(x, smallest, share=0.5):
    bank = blurs(x.shape[-1], smallest, x.device, x.dtype)
    pick = torch.randint(0, len(bank), (len(x),), device=x.device)
    pick = torch.where(torch.rand(len(x), device=x.device) < share, pick, torch.zeros_like(pick))
    m = bank[pick][:, None]
    return m @ x @ m.transpose(-1, -2)


@functools.cache
def cosines(size, device, kind):
    k = torch.arange(8, dtype=torch.float64)
    matrix = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) * 0.5
    matrix[0] = matrix[0] / math.sqrt(2)
    step = ((10 + 4 * (k[:, None] + k[None])) / 255).repeat(size // 8, size // 8)
    return torch.block_diag(*[matrix] * (size // 8)).to(device, kind), step.to(device, kind)


def blocks(x, share=0.5):
    """JPEG's quantisation of 8x8 blocks, coarser in the high frequencies; the others lose next to nothing."""
    d, step = cosines(x.shape[-1], x.device, x.dtype)
    strength = torch.where(some(x, share), uniform(x, 0.2, 3.0, len(x), 1, 1, 1) ** 1.5, torch.full((), 0.1, device=x.device))
    step = step * strength.to(x.dtype)
    spectrum = d @ (x @ d.T)
    return d.T @ (torch.round(spectrum / step) * step) @ d


def field(x, noise):
    """A picture's uneven light, a factor for each pixel: a shadow's edge, stains and streaks, lamps at night."""
    n, device = len(x), x.device
    draw = lambda low, high: uniform(x, low, high, n, 1, 1, 1)
    px, py = banks.planes(64, device)
    angle, far = draw(0, 2 * math.pi), draw(-0.5, 0.5)
    edge = torch.sigmoid(((px - 0.5) * torch.cos(angle) + (py - 0.5) * torch.sin(angle) - far) * draw(8, 60))
    total = 1 - edge * draw(0.2, 0.65) * some(x, 0.25)
    if noise is not None:
        pick = torch.randint(0, len(noise), (n,), device=device)
        stain = F.interpolate(noise[pick].float(), (64, 64), mode="area") - 0.5
        total = total * (1 + torch.tanh(stain * draw(1, 6)) * draw(-0.25, 0.3) * some(x, 0.2))
    spot = torch.exp(-(((px - draw(0, 1)) ** 2 + (py - draw(-0.3, 0.7)) ** 2) / draw(0.05, 0.4)))
    dark = some(x, 0.15)
    total = total * torch.where(dark, draw(0.2, 0.6) + spot * draw(0, 1.0), torch.ones_like(spot))
    return resized(total, x.shape[-1]).to(x.dtype), dark


def light(x, noise=None):
    """Gamma, gain, cast, saturation, shadows, night, infra-red grey, fog, noise."""
    n, size = len(x), x.shape[-1]
    draw = lambda low, high: uniform(x, low, high, n, 1, 1)
    # How far from an ordinary picture; most cameras are ordinary ones.
    far = draw(0.1, 1)
    x = x.clamp(1e-3, 1).log_().mul_((draw(-0.6, 0.6) * far).exp()[..., None].to(x.dtype)).exp_()
    uneven, dark = field(x, noise)
    x.mul_(1 + (uneven - 1) * (far[..., None] + dark).clamp(max=1).to(x.dtype))
    # Saturation, cast and gain, contrast, haze: one matrix and one offset.
    grey = torch.full((1, 3, 3), 1 / 3, device=x.device)
    saturation = torch.where(draw(0, 1) < 0.14, torch.zeros(n, 1, 1, device=x.device), draw(0.4, 1.5))
    matrix = (torch.eye(3, device=x.device) - grey) * saturation + grey
    matrix = matrix * (1 + draw(-0.4, 0.35) * far) * (1 + (torch.rand(n, 3, 1, device=x.device) - 0.5) * 0.3 * far * (saturation > 0))
    contrast, haze = 1 + draw(-0.45, 0.35) * far, draw(0.1, 0.55) * (draw(0, 1) < 0.12)
    matrix = matrix * contrast * (1 - haze)
    offset = (0.45 * (1 - contrast) * ~dark[..., 0]) * (1 - haze) + haze * draw(0.45, 0.9)
    x = torch.baddbmm(offset.to(x.dtype), matrix.to(x.dtype), x.reshape(n, 3, -1)).view(n, 3, size, size)
    strength = draw(0, 0.045)[..., None] + dark * draw(0, 0.03)[..., None]
    return x.add_(torch.randn_like(x).mul_(strength.to(x.dtype))).clamp_(0, 1)


def hide(x, largest=0.4):
    """A rectangle of flat colour, or of another picture of the batch, over part of each picture."""
    n, _, size, _ = x.shape
    px, py = banks.planes(size, x.device)
    draw = lambda low, high: uniform(x, low, high, n, 1, 1, 1)
    inside = ((px - draw(0, 1)).abs() < draw(0.04, largest / 2)) & ((py - draw(0, 1)).abs() < draw(0.04, largest / 2))
    flat = torch.rand(n, 3, 1, 1, device=x.device).to(x.dtype)
    return torch.where(inside, torch.where(some(x, 0.5), x.roll(n // 2, 0), flat), x)


# --- bays --------------------------------------------------------------------------------------

def bay_polygons(polys, wide):
    """The polygon, or its bounding box as other sources draw it, moved, scaled, turned and mirrored."""
    n = len(polys)
    draw = lambda low, high: uniform(polys, low, high, n, 1, 1)
    low, high = polys.amin(1, keepdim=True), polys.amax(1, keepdim=True)
    box = torch.cat([low, torch.stack([high[..., 0], low[..., 1]], -1), high, torch.stack([low[..., 0], high[..., 1]], -1)], 1)
    extent = (high - low).amax(2, keepdim=True)
    kind = torch.rand(n, 1, 1, device=polys.device)
    chosen = torch.where(kind < 0.65, polys, box)
    middle = chosen.mean(1, keepdim=True)
    # Along each side apart: a box around the car is another shape than the painted bay.
    stretch = torch.exp(torch.randn(n, 1, 2, device=polys.device) * 0.10)
    chosen = middle + (chosen - middle) * stretch * draw(0.9, 1.12)
    chosen = chosen + torch.randn(n, 1, 2, device=polys.device) * extent * 0.035
    chosen = chosen + torch.randn(n, 4, 2, device=polys.device) * extent * 0.02
    if wide:
        # Places that nobody labelled: for the teacher's opinion only.
        away = torch.randn(n, 1, 2, device=polys.device) * extent * 0.3
        chosen = torch.where(draw(0, 1) < 0.2, chosen + away, chosen)
    order = (torch.arange(4, device=polys.device)[None] + torch.randint(0, 4, (n, 1), device=polys.device)) % 4
    chosen = chosen.gather(1, order[..., None].expand(n, 4, 2))
    return torch.where(draw(0, 1) < 0.5, chosen.flip(1), chosen)


def homographies(polys, size):
    """As augment.homographies, closed form, on the device: [n, 3, 3] from the square to the polygon."""
    low, high = augment.inner(size)
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = (polys[:, i].double().unbind(-1) for i in range(4))
    dx1, dx2, sx = x1 - x2, x3 - x2, x0 - x1 + x2 - x3
    dy1, dy2, sy = y1 - y2, y3 - y2, y0 - y1 + y2 - y3
    scale = dx1 * dy2 - dx2 * dy1
    scale = torch.where(scale.abs() < 1e-6, torch.full_like(scale, 1e-6), scale)
    g, h = (sx * dy2 - dx2 * sy) / scale, (dx1 * sy - sx * dy1) / scale
    one = torch.ones_like(g)
    unit = torch.stack([x1 - x0 + g * x1, x3 - x0 + h * x3, x0, y1 - y0 + g * y1, y3 - y0 + h * y3, y0, g, h, one], -1)
    side = high - low
    into = torch.tensor([[1 / side, 0, -low / side], [0, 1 / side, -low / side], [0, 0, 1]], dtype=torch.float64, device=polys.device)
    return unit.reshape(-1, 3, 3) @ into


def bay_taps(crops, polys, size=64):
    """The two-by-two taps of every output pixel, 0..1: `[n, 3, 2 size, 2 size]`; their mean is the gateway's crop."""
    taps = (torch.arange(2 * size, dtype=torch.float64, device=crops.device) + 0.5) / 2
    v, u = torch.meshgrid(taps, taps, indexing="ij")
    points = torch.stack([u, v, torch.ones_like(u)], -1).reshape(1, -1, 3)
    mapped = points @ homographies(polys, size).transpose(1, 2)
    grid = (mapped[..., :2] / mapped[..., 2:]).float().view(-1, 2 * size, 2 * size, 2) / crops.shape[-1] * 2 - 1
    return F.grid_sample(crops, grid.clamp(-4, 4), "bilinear", "border", align_corners=False)


def bay_input(taps):
    """The net's four planes from the taps."""
    n, _, twice, _ = taps.shape
    size = twice // 2
    low, high = augment.inner(size)
    at = torch.arange(size, device=taps.device) + 0.5
    inside = ((at >= low) & (at < high)).float()
    mask = (inside[:, None] * inside[None, :]).expand(n, 1, size, size)
    return torch.cat([(F.avg_pool2d(taps.float(), 2) - augment.MEAN) / augment.STD, mask], 1)


def bay_batch(crops, polys, wide=False):
    x = bay_taps(crops.float() / 255, bay_polygons(polys, wide)).to(banks.number(crops.device.type))
    x[::4] = hide(x[::4])
    return blocks(light(soften(x, 14, 0.5)), 0.4).clamp_(0, 1)


# --- fire --------------------------------------------------------------------------------------

def turned(theta, kind, size):
    """Where the pixels of a square come from, by an affine map a picture."""
    return F.affine_grid(theta, (len(theta), 3, size, size), align_corners=False).to(kind)


def windows(centre_x, centre_y, w, h, angle, mirror, upside):
    """Affine maps of windows of these centres and sizes (0..1 of the picture), turned and mirrored."""
    c, s = torch.cos(angle), torch.sin(angle)
    first = torch.stack([w * c * mirror, -h * s * upside, 2 * centre_x - 1], 1)
    return torch.stack([first, torch.stack([w * s * mirror, h * c * upside, 2 * centre_y - 1], 1)], 1)


def signs(n, device):
    return torch.where(torch.rand(n, device=device) < 0.5, -1.0, 1.0)


def shuffled(n, device):
    return torch.rand(n, device=device).argsort()


def chosen(odds, n):
    """Numbers of rows by their odds, with replacement."""
    total = odds.cumsum(0)
    return torch.searchsorted(total, torch.rand(n, device=odds.device) * total[-1]).clamp(max=len(odds) - 1)


def nearer(x):
    """Each picture from a little nearer, its part chosen by chance, mirrored."""
    n, device = len(x), x.device
    draw = lambda low, high: torch.rand(n, device=device) * (high - low) + low
    w, one = draw(0.8, 1.0), torch.ones(n, device=device)
    theta = windows(0.5 + draw(-0.5, 0.5) * (1 - w), 0.5 + draw(-0.5, 0.5) * (1 - w), w, w, 0 * w, -one, one)
    return F.grid_sample(x, turned(theta, x.dtype, x.shape[-1]), "bilinear", "reflection", align_corners=False)


def taken(images, theta, size):
    kind = banks.number(images.device.type)
    return F.grid_sample(images.to(kind).mul_(1 / 255), turned(theta, kind, size), "bilinear", "reflection", align_corners=False)


def above(images, size):
    """Any part of a picture without fire, from very near to whole, at any angle: as seen from above."""
    n, device = len(images), images.device
    draw = lambda low, high: torch.rand(n, device=device) * (high - low) + low
    scale = torch.exp(draw(math.log(0.1), 0))
    w, h = scale * torch.exp(draw(-0.2, 0.2)), scale * torch.exp(draw(-0.2, 0.2))
    theta = windows(draw(0, 1), draw(0, 1), w, h, draw(0, 2 * math.pi), signs(n, device), torch.ones(n, device=device))
    return taken(images, theta, size)


def fire_crops(images, labels, boxes, size):
    """Tiles as the gateway cuts them, and any other; labels follow what of the boxes is left in the tile."""
    n, device = len(images), images.device
    draw = lambda low, high: torch.rand(n, device=device) * (high - low) + low
    boxed = boxes[:, :, 0] >= 0
    any_box = boxed.any(1)
    clear = labels.nan_to_num(1).amax(1) == 0
    scale = torch.where(any_box, draw(0.4, 1.0), draw(0.75, 1.0))
    scale = torch.where(clear, draw(0.2, 1.0), scale)
    scale = torch.where(draw(0, 1) < 0.25, torch.ones_like(scale), scale)
    w, h = (scale * torch.exp(draw(-0.12, 0.12))).clamp(max=1), (scale * torch.exp(draw(-0.12, 0.12))).clamp(max=1)
    left, top = draw(0, 1) * (1 - w), draw(0, 1) * (1 - h)
    pick = (torch.rand(boxes.shape[:2], device=device) * boxed).argmax(1)
    box = boxes[torch.arange(n, device=device), pick]
    aim = any_box & (draw(0, 1) < 0.75)
    centre_x, centre_y = box[:, 1] + box[:, 3] * draw(0.2, 0.8), box[:, 2] + box[:, 4] * draw(0.2, 0.8)
    left = torch.where(aim, (centre_x - w * draw(0.2, 0.8)).clamp(min=0).minimum(1 - w), left)
    top = torch.where(aim, (centre_y - h * draw(0.2, 0.8)).clamp(min=0).minimum(1 - h), top)
    seen_w = (torch.minimum(boxes[..., 1] + boxes[..., 3], (left + w)[:, None]) - torch.maximum(boxes[..., 1], left[:, None])).clamp(min=0)
    seen_h = (torch.minimum(boxes[..., 2] + boxes[..., 4], (top + h)[:, None]) - torch.maximum(boxes[..., 2], top[:, None])).clamp(min=0)
    # Of the box, or of the tile: a part of a large box that fills the tile is enough.
    share = torch.maximum(seen_w * seen_h / (boxes[..., 3] * boxes[..., 4]).clamp(min=1e-6), seen_w * seen_h / (w * h)[:, None] * 2.5)
    labels = labels.clone()
    for kind in (0, 1):
        mine = boxed & (boxes[..., 0] == kind)
        seen = torch.where(mine, share, torch.zeros_like(share)).amax(1)
        label = labels[:, kind]
        lost = (label == 1) & mine.any(1) & (seen < 0.35)
        # A lost flame is not there; smoke may drift anywhere, so a lost one is unknown.
        gone = torch.where((seen < 0.02) & (kind == 0), torch.zeros_like(label), torch.full_like(label, float("nan")))
        labels[:, kind] = torch.where(lost, gone, label)
    tilt = draw(-0.15, 0.15) * (draw(0, 1) < 0.3)
    theta = windows(left + w / 2, top + h / 2, w, h, tilt, signs(n, device), torch.ones(n, device=device))
    return taken(images, theta, size), labels


def overlay(x, sprites, wide, strength, at=None, mask=None):
    """One sprite over each picture, `wide` (0..1 of the picture, range) across. Returns (picture, change)."""
    n, size, device = len(x), x.shape[-1], x.device
    draw = lambda low, high: torch.rand(n, device=device) * (high - low) + low
    w = torch.exp(draw(*(math.log(v) for v in wide)))
    h = w * torch.exp(draw(-0.3, 0.6))
    middle = at or (draw(0.02, 0.98), draw(-0.05, 1.0))
    angle = torch.where(draw(0, 1) < 0.12, draw(0, 2 * math.pi), draw(-0.3, 0.3))
    # From a window in the picture to the sprite's own square: the inverse of a placement.
    c, s, mirror = torch.cos(angle), torch.sin(angle), signs(n, device)
    shift_x, shift_y = 2 * middle[0] - 1, 2 * middle[1] - 1
    first = torch.stack([c * mirror / w, s * mirror / w, -(c * shift_x + s * shift_y) * mirror / w], 1)
    second = torch.stack([-s / h, c / h, (s * shift_x - c * shift_y) / h], 1)
    pick = torch.randint(0, len(sprites), (n,), device=device)
    # A far place outside the sprite must stay a number of sixteen bits.
    grid = F.affine_grid(torch.stack([first, second], 1), (n, 3, size, size), align_corners=False).clamp_(-4, 4).to(x.dtype)
    put = F.grid_sample(sprites[pick], grid, "bilinear", "zeros", align_corners=False) * uniform(x, *strength, n, 1, 1, 1).to(x.dtype)
    if mask is not None:
        put = put * mask
    made = x * (1 - put[:, 3:]) + put[:, :3]
    return made, (made - x).abs().amax(1)


def share(change):
    """How much of each picture was changed so that one can see it."""
    return (change > 0.1).float().mean((1, 2))


def glow(x, strength):
    """Warm light of a fire somewhere near, on all that is there."""
    n, size = len(x), x.shape[-1]
    px, py = banks.planes(64, x.device)
    draw = lambda low, high: uniform(x, low, high, n, 1, 1, 1)
    near = torch.exp(-(((px - draw(0, 1)) ** 2 + (py - draw(0.3, 1)) ** 2) / draw(0.02, 0.3))) * draw(0, strength)
    warm = torch.cat([torch.full((1, 1, 1, 1), v, device=x.device) for v in (1.0, 0.55, 0.2)], 1)
    return (x * (1 + resized(near * warm, size).to(x.dtype) * 2)).clamp(max=1)


def framed(x, flames):
    """A window lit from inside by fire: a dark pane, flames in it, and bars before them."""
    n, size, device = len(x), x.shape[-1], x.device
    draw = lambda low, high: uniform(x, low, high, n, 1, 1, 1)
    px, py = banks.planes(size, device)
    wide, tall, x0, y0 = draw(0.05, 0.3), draw(0.07, 0.4), draw(0.1, 0.9), draw(0.1, 0.9)
    u, v = (px - x0) / wide + 0.5, (py - y0) / tall + 0.5
    pane = (u > 0) & (u < 1) & (v > 0) & (v < 1)
    bars = (((u * torch.randint(1, 4, (n, 1, 1, 1), device=device)) % 1) < draw(0, 0.18)) | (((v * torch.randint(1, 4, (n, 1, 1, 1), device=device)) % 1) < draw(0, 0.18))
    x = torch.where(pane, torch.where(bars, draw(0.1, 1).to(x.dtype), x * draw(0.1, 0.8).to(x.dtype)), x)
    mask = (pane & ~bars).to(x.dtype)
    at = (x0 + wide * draw(-0.3, 0.3))[:, 0, 0, 0], (y0 + tall * draw(-0.2, 0.2))[:, 0, 0, 0]
    return overlay(x, flames, (0.15, 0.6), (0.7, 1), at, mask)


class Kitchen:
    """The banks, and how composites are made of them. `more` scales the banks down for a try."""

    def __init__(self, images, labels, boxes, cuts, device, more=1.0):
        count = lambda n: max(16, int(n * more))
        self.noise = banks.noises(count(256), device)
        self.flames, self.smokes, self.lamps = (make(count(1024), device) for make in (banks.flames, banks.smokes, banks.lamps))
        part = lambda rows: (images[rows[:, 0]], boxes[rows[:, 0], rows[:, 1], 1:])
        flame_rows, smoke_rows, whole = cuts
        self.cut_flames = banks.cut_outs(*part(flame_rows), False, device)
        if len(whole):
            full = torch.tensor([[0.0, 0.0, 1.0, 1.0]], device=device).expand(len(whole), 4)
            self.cut_flames = torch.cat([self.cut_flames, banks.cut_outs(images[whole], full, False, device)])
        self.cut_smokes = banks.cut_outs(*part(smoke_rows), True, device)

    def composites(self, x):
        """Fire or smoke over pictures without, by rows: (pictures, labels). What is too small to see is unknown."""
        n = len(x)
        labels = torch.zeros(n, 2, device=x.device)
        ends = [round(n * v) for v in (0.2, 0.3, 0.4, 0.62, 0.78, 0.9, 1)]
        rows = [slice(a, b) for a, b in zip([0, *ends], ends)]
        # Night, with the fire as the only light.
        x[::5] = x[::5] * uniform(x, 0.12, 0.6, len(x[::5]), 1, 1, 1).to(x.dtype)
        small, usual, large = (0.07, 0.25), (0.2, 0.9), (0.8, 2.4)

        def put(rows, column, least, made, change):
            x[rows] = made.clamp(0, 1)
            seen = share(change)
            labels[rows, column] = torch.where(seen > least, 1.0, float("nan"))

        put(rows[0], 1, 0.015, *overlay(x[rows[0]], self.smokes, usual, (0.5, 1)))
        put(rows[1], 1, 0.04, *overlay(x[rows[1]], self.smokes, large, (0.4, 1)))
        put(rows[2], 1, 0.015, *overlay(x[rows[2]], self.cut_smokes, (0.3, 1.3), (0.6, 1)))
        x[rows[3]] = glow(x[rows[3]], 0.35)
        half = (rows[3].start + rows[3].stop) // 2
        for those, wide in ((slice(rows[3].start, half), small), (slice(half, rows[3].stop), usual)):
            put(those, 0, 0.0018, *overlay(x[those], self.flames, wide, (0.65, 1)))
        put(rows[4], 0, 0.0025, *overlay(x[rows[4]], self.cut_flames, (0.15, 1.0), (0.8, 1)))
        put(rows[5], 0, 0.0018, *framed(x[rows[5]], self.flames))
        # Both: flames with smoke before or behind them.
        both = rows[6]
        put(both, 1, 0.015, *overlay(x[both], self.smokes, (0.3, 1.5), (0.3, 0.9)))
        put(both, 0, 0.0025, *overlay(x[both], self.flames, usual, (0.7, 1)))
        # Smoke that a flame's cut-out brings along, or that a fire in a window has, is nobody's label.
        labels[rows[4], 1] = float("nan")
        return x, labels

    def decoys(self, x):
        for _ in range(2):
            x, _ = overlay(x, self.lamps, (0.03, 0.5), (0.3, 1))
        return x.clamp(0, 1)

    def dusk(self, x):
        """A sky of sunset, or haze that grows with distance, over the upper part."""
        n, size = len(x), x.shape[-1]
        draw = lambda low, high: uniform(x, low, high, n, 1, 1, 1)
        _, py = banks.planes(size, x.device)
        sky = (((draw(0.2, 0.8) - py) * 3).clamp(0, 1) * draw(0.2, 0.85)).to(x.dtype)
        warm = torch.cat([draw(0.8, 1), draw(0.35, 0.7), draw(0.1, 0.5)], 1)
        return x * (1 - sky) + torch.where(some(x, 0.5), warm, draw(0.5, 0.9).expand(n, 3, 1, 1)).to(x.dtype) * sky

    def camera(self, x):
        """All that comes between a scene and its picture."""
        x[::3] = self.decoys(x[::3])
        x[1::8] = self.dusk(x[1::8])
        x[2::7] = hide(x[2::7], 0.3)
        bars = x[3::10]
        px, py = banks.planes(x.shape[-1], x.device)
        edge = uniform(x, 0.05, 0.28, len(bars), 1, 1, 1)
        x[3::10] = bars * torch.where(some(bars, 0.6), ((px - 0.5).abs() < 0.5 - edge), ((py - 0.5).abs() < 0.5 - edge)).to(x.dtype)
        # A pane or a dirty dome: another picture, faint.
        panes = x[4::16]
        x[4::16] = panes * 0.85 + panes.roll(1, 0) * uniform(x, 0, 0.12, len(panes), 1, 1, 1).to(x.dtype)
        return blocks(light(soften(x, 48, 0.45), self.noise), 0.4).clamp_(0, 1)
