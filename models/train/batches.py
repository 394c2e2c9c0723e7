"""What a camera may show, made in large batches on one device: crops of bays, tiles with and without fire.

Owns augmentation for training: geometry, light, weather, compression, composites of flame and smoke
(procedural ones and ones cut out of training pictures), and decoys that must not alarm. Every draw comes
from torch's own generator, seeded by train.py. Pictures are 0..1, `[n, 3, size, size]`.
"""
import math

import torch
from torch.nn import functional as F

import augment


def uniform(like, low, high, *shape):
    return torch.rand(*shape, device=like.device) * (high - low) + low


def some(like, share):
    """A mask over the batch: true with this probability."""
    return (torch.rand(len(like), device=like.device) < share)[:, None, None, None]


def planes(n, size, device):
    """x and y of pixel centres, 0..1."""
    at = (torch.arange(size, device=device) + 0.5) / size
    return at.view(1, 1, 1, size), at.view(1, 1, size, 1)


def clouds(n, size, device, first=3, octaves=5):
    """Fractal noise, about 0..1, `[n, 1, size, size]`."""
    total, weight = 0.0, 0.0
    for octave in range(octaves):
        cells = first * 2**octave
        coarse = torch.rand(n, 1, cells, cells, device=device)
        total = total + F.interpolate(coarse, (size, size), mode="bicubic" if octave < 3 else "bilinear") * 0.6**octave
        weight += 0.6**octave
    return ((total / weight - 0.5) * 1.6 + 0.5).clamp(0, 1)


# --- what a camera does ------------------------------------------------------------------------

def dct_matrix(device):
    k = torch.arange(8, device=device, dtype=torch.float32)
    matrix = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) * 0.5
    matrix[0] = matrix[0] / math.sqrt(2)
    return matrix


def blocks(x, share=0.5):
    """JPEG's quantisation of 8x8 blocks, coarser in the high frequencies."""
    n, c, h, w = x.shape
    d = dct_matrix(x.device)
    cut = x.view(n, c, h // 8, 8, w // 8, 8).permute(0, 1, 2, 4, 3, 5)
    k = torch.arange(8, device=x.device)
    step = (10 + 4 * (k[:, None] + k[None])) / 255 * uniform(x, 0.2, 3.0, n, 1, 1, 1, 1, 1) ** 1.5
    spectrum = d @ cut @ d.T
    back = d.T @ (torch.round(spectrum / step) * step) @ d
    out = back.permute(0, 1, 2, 4, 3, 5).reshape(n, c, h, w)
    return torch.where(some(x, share), out, x)


def soften(x, smallest, share=0.5):
    """A camera further away, or out of focus: each quarter of the batch through another resolution."""
    out = []
    for part in x.chunk(6):
        side = int(torch.randint(smallest, x.shape[-1] + 1, (1,)))
        low = F.interpolate(part, (side, side), mode="bilinear", antialias=True, align_corners=False)
        mode = "bilinear" if torch.rand(()) < 0.7 else "bicubic"
        out.append(F.interpolate(low, x.shape[-2:], mode=mode, align_corners=False))
    return torch.where(some(x, share), torch.cat(out), x)


def light(x):
    """Gamma, gain, cast, saturation, shadows, night, infra-red grey, fog, rain, noise."""
    n, _, size, _ = x.shape
    px, py = planes(n, size, x.device)
    draw = lambda low, high: uniform(x, low, high, n, 1, 1, 1)
    x = x.clamp(1e-3, 1) ** torch.exp(draw(-0.6, 0.6))
    x = x * draw(0.6, 1.35) * (1 + (torch.rand(n, 3, 1, 1, device=x.device) - 0.5) * 0.3)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * draw(0.4, 1.5)
    contrast = draw(0.55, 1.35)
    x = (x - 0.45) * contrast + 0.45
    # A shadow's straight soft edge.
    angle, far = draw(0, 2 * math.pi), draw(-0.5, 0.5)
    edge = torch.sigmoid(((px - 0.5) * torch.cos(angle) + (py - 0.5) * torch.sin(angle) - far) * draw(8, 80))
    x = torch.where(some(x, 0.25), x * (1 - edge * draw(0.2, 0.65)), x)
    night = x * draw(0.14, 0.5)
    night = night + torch.exp(-(((px - draw(0, 1)) ** 2 + (py - draw(-0.3, 0.7)) ** 2) / draw(0.05, 0.4))) * x * draw(0, 1.2)
    dark = some(x, 0.2)
    x = torch.where(dark, night, x)
    x = torch.where(some(x, 0.14), x.mean(1, keepdim=True).expand_as(x), x)
    haze = draw(0.15, 0.6)
    x = torch.where(some(x, 0.12), x * (1 - haze) + haze * draw(0.45, 0.9), x)
    noise = torch.randn_like(x) * (draw(0, 0.045) + dark * draw(0, 0.03))
    return (x + noise).clamp(0, 1)


def hide(x, share, largest=0.4):
    """A rectangle of flat colour, or of another picture of the batch, over part of the picture."""
    n, _, size, _ = x.shape
    px, py = planes(n, size, x.device)
    draw = lambda low, high: uniform(x, low, high, n, 1, 1, 1)
    inside = ((px - draw(0, 1)).abs() < draw(0.04, largest / 2)) & ((py - draw(0, 1)).abs() < draw(0.04, largest / 2))
    other = torch.where(some(x, 0.5), x.roll(1, 0), torch.rand(n, 3, 1, 1, device=x.device).expand_as(x))
    return torch.where(inside & some(x, share), other, x)


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
    return torch.cat([(F.avg_pool2d(taps, 2) - augment.MEAN) / augment.STD, mask], 1)


def bay_batch(crops, polys, wide=False):
    x = crops.float() / 255
    x = bay_taps(x, bay_polygons(polys, wide))
    x = hide(x, 0.25)
    x = soften(x, 14, 0.5)
    return blocks(light(x), 0.4).clamp(0, 1)


# --- fire --------------------------------------------------------------------------------------

def fire_crops(images, labels, boxes, size):
    """Tiles as the gateway cuts them, and any other; labels follow what of the boxes is left in the tile."""
    n, device = len(images), images.device
    draw = lambda low, high: torch.rand(n, device=device) * (high - low) + low
    boxed = boxes[:, :, 0] >= 0
    any_box = boxed.any(1)
    scale = torch.where(any_box | (labels.nan_to_num(0).amax(1) == 0), draw(0.4, 1.0), draw(0.75, 1.0))
    scale = torch.where(draw(0, 1) < 0.25, torch.ones_like(scale), scale)
    w, h = (scale * torch.exp(draw(-0.12, 0.12))).clamp(max=1), (scale * torch.exp(draw(-0.12, 0.12))).clamp(max=1)
    left, top = draw(0, 1) * (1 - w), draw(0, 1) * (1 - h)
    pick = torch.multinomial(boxed.float() + 1e-6, 1)[:, 0]
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
    turn = torch.where(draw(0, 1) < 0.5, -1.0, 1.0)
    at = torch.linspace(-1, 1, size, device=device) * (size - 1) / size
    gx = (left + w / 2)[:, None] * 2 - 1 + at[None] * w[:, None] * turn[:, None]
    gy = (top + h / 2)[:, None] * 2 - 1 + at[None] * h[:, None]
    grid = torch.stack([gx[:, None, :].expand(n, size, size), gy[:, :, None].expand(n, size, size)], -1)
    x = F.grid_sample(images.float() / 255, grid, "bilinear", "border", align_corners=False)
    return x, labels


def plume(n, size, device, tall, wide):
    """Place and shape of a plume: (aside in half widths, height above the foot in plume heights, x, y, half, high)."""
    px, py = planes(n, size, device)
    like = px
    draw = lambda low, high: uniform(like, low, high, n, 1, 1, 1)
    half = wide[0] * (wide[1] / wide[0]) ** torch.rand(n, 1, 1, 1, device=device)
    high = half * draw(*tall)
    x0, y0 = draw(0.08, 0.92), draw(0.25, 1.02)
    lean = draw(-0.8, 0.8)
    up = (y0 - py) / high
    return (px - x0 - lean * up * half) / half, up, x0, y0, half, high


def paint_flame(x):
    """Procedural flames, one or two plumes each, and their light on what is near. Returns (picture, share covered)."""
    n, _, size, _ = x.shape
    draw = lambda low, high: uniform(x, low, high, n, 1, 1, 1)
    px, py = planes(n, size, x.device)
    heat, glow = torch.zeros(n, 1, size, size, device=x.device), 0.0
    for extra in range(2):
        aside, up, x0, y0, half, high = plume(n, size, x.device, (1.0, 3.2), (0.02, 0.3))
        swirl = clouds(n, size, x.device, 4 if extra else 7)
        edge = (1.25 - (aside + (swirl - 0.5) * up * 2.2).abs() / (1 - 0.75 * up).clamp(min=0.1)) * (0.3 + swirl) * (1.2 - up)
        edge = edge * ((up > -0.05) & (up < 1.2)) * draw(0.7, 1.3)
        there = 1.0 if extra == 0 else some(x, 0.4).float()
        heat = torch.maximum(heat, edge.clamp(0, 1.6) * there)
        if extra == 0:
            glow = torch.exp(-((px - x0) ** 2 + (py - y0 + high * 0.4) ** 2) / (half * draw(2, 5)) ** 2)
    warm = draw(0.75, 1.15)
    colour = torch.cat([(heat * 3).clamp(0, 1), ((heat * 1.7 - 0.15) * warm).clamp(0.08, 0.97), ((heat * 2.0 - 1.2) * warm).clamp(0.02, 0.85)], 1)
    alpha = (heat * draw(1.6, 3)).clamp(0, 1) * draw(0.75, 1)
    spill = glow * draw(0, 0.35) * torch.tensor([1.0, 0.55, 0.2], device=x.device).view(1, 3, 1, 1)
    x = (x * (1 + spill * 2) + spill * 0.3).clamp(0, 1)
    return x * (1 - alpha) + colour * alpha, (alpha > 0.4).float().mean((1, 2, 3))


def paint_smoke(x):
    """Procedural smoke: a plume or a bank, from white to black. Returns (picture, share covered)."""
    n, _, size, _ = x.shape
    draw = lambda low, high: uniform(x, low, high, n, 1, 1, 1)
    aside, up, *_ = plume(n, size, x.device, (1.2, 5.0), (0.04, 0.4))
    swirl = clouds(n, size, x.device, 4)
    fine = clouds(n, size, x.device, 10, 4)
    spread = 0.5 + draw(0.8, 2.2) * up.clamp(min=0)
    body = (1.35 - (aside + (swirl - 0.5) * 1.6).abs() / spread + (swirl - 0.5) * 0.9).clamp(0, 1)
    fade = (1.15 - up).clamp(0, 1) * (up * 5 + 0.3).clamp(0, 1)
    alpha = (body * (swirl * 1.9 - 0.35 + (fine - 0.5) * 0.5).clamp(0, 1) * fade * draw(0.8, 2.0)).clamp(0, 1) * draw(0.4, 0.97)
    tone = draw(0.08, 0.95) * draw(0.6, 1.0) + (fine - 0.5) * draw(0.0, 0.35) - 0.1 * (swirl - 0.5)
    tint = 1 + (torch.rand(n, 3, 1, 1, device=x.device) - 0.5) * 0.1
    x = F.avg_pool2d(x, 3, 1, 1) * 0.3 + x * 0.7
    return x * (1 - alpha) + (tone * tint).clamp(0, 1) * alpha, (alpha > 0.25).float().mean((1, 2, 3))


def paste(x, images, boxes, smoke):
    """Cut-outs of labelled flames or smoke of training pictures, faded at the edges. (picture, share covered)."""
    n, _, size, _ = x.shape
    draw = lambda low, high: uniform(x, low, high, n, 1, 1, 1)
    px, py = planes(n, size, x.device)
    wide, tall = draw(0.1, 0.7), draw(0.1, 0.7)
    left, top = draw(-0.1, 1) * (1 - wide), draw(0, 1) * (1 - tall)
    u, v = (px - left) / wide, (py - top) / tall
    side = torch.where(some(x, 0.5), 1 - u, u)
    gx = boxes[:, 1].view(-1, 1, 1, 1) + side.clamp(0, 1) * boxes[:, 3].view(-1, 1, 1, 1)
    gy = boxes[:, 2].view(-1, 1, 1, 1) + v.clamp(0, 1) * boxes[:, 4].view(-1, 1, 1, 1)
    grid = torch.stack([gx.expand(n, 1, size, size), gy.expand(n, 1, size, size)], -1)[:, 0] * 2 - 1
    part = F.grid_sample(images.float() / 255, grid, "bilinear", "border", align_corners=False)
    round_off = (1.15 - ((u * 2 - 1) ** 2 + (v * 2 - 1) ** 2)).clamp(0, 1) * 3
    if smoke:
        alpha = (round_off * (0.4 + clouds(n, size, x.device, 4))).clamp(0, 1) * draw(0.6, 0.97)
    else:
        bright, warm = part.amax(1, keepdim=True), part[:, :1] - part[:, 2:]
        alpha = ((bright - 0.4) * 3).clamp(0, 1) * ((warm + 0.02) * 5).clamp(0, 1) * round_off.clamp(0, 1)
    return x * (1 - alpha) + part * alpha, (alpha > 0.4).float().mean((1, 2, 3))


def decoys(x):
    """Lamps, brake lights, hi-vis, sunset, flare, wet reflections, white and grey panels: never flame or smoke."""
    n, _, size, _ = x.shape
    device = x.device
    draw = lambda low, high: uniform(x, low, high, n, 1, 1, 1)
    px, py = planes(n, size, device)
    palette = torch.tensor([[1, 0.85, 0.55], [1, 0.65, 0.2], [1, 0.1, 0.08], [0.95, 0.45, 0.05], [0.9, 1, 0.1],
                            [1, 1, 0.95], [1, 0.8, 0.1], [0.85, 0.85, 0.85], [0.6, 0.6, 0.62]], device=device)
    for _ in range(3):
        colour = palette[torch.randint(0, len(palette), (n,), device=device)].view(n, 3, 1, 1)
        x0, y0, reach = draw(0, 1), draw(0, 1), draw(0.008, 0.09)
        away = ((px - x0) ** 2 + (py - y0) ** 2).sqrt() / reach
        lamp = torch.exp(-away) * 1.6
        pair = lamp + torch.exp(-((px - x0 - reach * 5) ** 2 + (py - y0) ** 2).sqrt() / reach) * 1.6
        streak = torch.exp(-((px - x0) / reach).abs() * 1.5) * torch.exp(-((py - y0) / draw(0.05, 0.4)).abs()) * (py > y0) * clouds(n, size, device, 12, 3) * 1.6
        panel = (((px - x0).abs() < reach * draw(0.5, 3)) & ((py - y0).abs() < reach * draw(0.5, 3))).float() * draw(0.6, 1)
        kind = torch.rand(n, 1, 1, 1, device=device)
        alpha = torch.where(kind < 0.25, lamp, torch.where(kind < 0.45, pair, torch.where(kind < 0.65, lamp + streak, panel)))
        alpha = alpha.clamp(0, 1) * some(x, 0.6)
        core = (alpha * 2 - 1).clamp(0, 1) * (kind < 0.65)
        x = x * (1 - alpha) + (colour + core * 0.6).clamp(0, 1) * alpha
    sky = ((draw(0.2, 0.8) - py) * 3).clamp(0, 1) * draw(0.2, 0.85)
    dusk = torch.cat([draw(0.8, 1), draw(0.35, 0.7), draw(0.1, 0.5)], 1)
    return torch.where(some(x, 0.2), x * (1 - sky) + dusk * sky, x)


def fire_batch(store, picks, size):
    """Pictures 0..1 with their labels, from a store (images, labels, boxes, sources of cut-outs)."""
    images, labels, boxes, (flames, smokes) = store
    x, y = fire_crops(images[picks], labels[picks], boxes[picks], size)
    lure = torch.nonzero(torch.rand(len(x), device=x.device) < 0.3)[:, 0]
    if len(lure):
        x[lure] = decoys(x[lure])
    clear = (y == 0).all(1)
    kind = torch.where(clear, torch.rand(len(x), device=x.device), torch.ones(len(x), device=x.device))
    for paint, low, high in (("smoke", 0.0, 0.12), ("flame", 0.10, 0.22), ("cut flame", 0.22, 0.30), ("cut smoke", 0.30, 0.38)):
        rows = torch.nonzero((kind >= low) & (kind < high))[:, 0]
        if len(rows) == 0:
            continue
        if paint.startswith("cut"):
            source = smokes if paint == "cut smoke" else flames
            chosen = source[torch.randint(0, len(source), (len(rows),), device=x.device)]
            made, share = paste(x[rows], images[chosen[:, 0]], boxes[chosen[:, 0], chosen[:, 1]], paint == "cut smoke")
        else:
            made, share = (paint_flame if paint == "flame" else paint_smoke)(x[rows])
        column = 1 if "smoke" in paint else 0
        x[rows] = made
        label = torch.where(share > 0.006, torch.ones_like(share), torch.full_like(share, float("nan")))
        y[rows, column] = label
        if paint == "cut flame":
            y[rows, 1] = float("nan")  # a flame's cut-out may bring its smoke
    x = hide(x, 0.15, 0.3)
    x = soften(x, 48, 0.4)
    return blocks(light(x), 0.4).clamp(0, 1), y
