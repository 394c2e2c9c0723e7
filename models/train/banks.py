"""What is drawn once and shown often: noise, flames, smoke, lamps, and surfaces that must not alarm.

Owns the banks that `batches.py` draws from: making a picture costs far more than moving, scaling and turning
one that is there. Sprites are `[n, 4, side, side]`, colour times opacity and the opacity; they fade at their
edges. Every draw comes from torch's own generator, seeded by train.py.
"""
import math

import torch
from torch.nn import functional as F

SIDE = 256  # of a sprite and of a noise picture
CHUNK = 32  # drawn at once


def number(device):
    """Half precision where the device is made for it."""
    return torch.float16 if device == "cuda" else torch.float32


def draw(n, low, high, device):
    return torch.rand(n, 1, 1, 1, device=device) * (high - low) + low


def planes(size, device):
    """x and y of pixel centres, 0..1."""
    at = (torch.arange(size, device=device) + 0.5) / size
    return at.view(1, 1, 1, size), at.view(1, 1, size, 1)


def clouds(n, size, device, tall=3, wide=3, octaves=5):
    """Fractal noise, about 0..1, `[n, 1, size, size]`, with this many cells in the coarsest octave."""
    total, weight = 0.0, 0.0
    for octave in range(octaves):
        coarse = torch.rand(n, 1, min(tall * 2**octave, size), min(wide * 2**octave, size), device=device)
        total = total + F.interpolate(coarse, (size, size), mode="bicubic" if octave < 3 else "bilinear") * 0.6**octave
        weight += 0.6**octave
    return ((total / weight - 0.5) * 1.6 + 0.5).clamp(0, 1)


def any_of(low, high):
    return int(torch.randint(low, high, (1,)))


def chunks(count, make):
    return torch.cat([make(min(CHUNK, count - at)) for at in range(0, count, CHUNK)])


def noises(count, device):
    """Noise of all grains, round and drawn out, `[n, 1, SIDE, SIDE]`."""
    def make(n):
        wide = any_of(2, 7)
        return clouds(n, SIDE, device, wide * any_of(1, 6), wide, any_of(3, 6)).to(number(device))
    return chunks(count, make)


def fade(device):
    px, py = planes(SIDE, device)
    return ((1 - (2 * px - 1).abs()) * 8).clamp(0, 1) * ((1 - (2 * py - 1).abs()) * 8).clamp(0, 1)


def sprite(colour, alpha, device):
    alpha = (alpha * fade(device)).clamp(0, 1)
    return torch.cat([colour.clamp(0, 1) * alpha, alpha], 1).to(number(device))


def flames(count, device):
    """Flames of one to three tongues, in the colours that cameras give them."""
    px, py = planes(SIDE, device)

    def make(n):
        d = lambda low, high: draw(n, low, high, device)
        heat = torch.zeros(n, 1, SIDE, SIDE, device=device)
        for tongue in range(3):
            swirl = clouds(n, SIDE, device, any_of(2, 6), any_of(3, 9))
            up = (0.93 - py + (swirl - 0.5) * d(0, 0.2)) / d(0.35, 0.95)
            foot, half = 0.5 + (d(-0.28, 0.28) if tongue else d(-0.05, 0.05)), d(0.06, 0.25)
            aside = (px - foot - d(-0.2, 0.2) * up - (swirl - 0.5) * up * d(0.1, 0.5)) / half
            body = (1.25 - aside.abs() / (1 - 0.75 * up).clamp(min=0.1)) * (0.3 + swirl) * (1.2 - up)
            body = body * ((up > -0.05) & (up < 1.2)) * d(0.7, 1.4)
            heat = torch.maximum(heat, body if tongue == 0 else body * (d(0, 1) < 0.5))
        heat = (heat * (1 + (clouds(n, SIDE, device, 9, 9, 3) - 0.5) * d(0, 1.2))).clamp(0, 1.6)
        warm = d(0.7, 1.15)
        orange = torch.cat([heat * 3, ((heat * 1.7 - 0.15) * warm).clamp(0.08, 0.97), ((heat * 2 - 1.2) * warm).clamp(0.02, 0.85)], 1)
        white = torch.cat([heat * 0 + 1, 0.7 + 0.3 * heat, 0.3 + 0.65 * heat], 1)
        pink = torch.cat([heat * 0 + 1, 0.35 + 0.5 * heat, 0.5 + 0.45 * heat], 1)
        red = torch.cat([0.4 + heat * 1.4, heat * 0.9 - 0.15, heat * 0.5 - 0.3], 1)
        grey = (0.5 + heat * 0.6).expand(n, 3, SIDE, SIDE)
        kind, colour = d(0, 1), orange
        for over, other in ((0.45, white), (0.65, pink), (0.78, red), (0.92, grey)):
            colour = torch.where(kind > over, other, colour)
        return sprite(colour, (heat * d(1.4, 4)).clamp(0, 1) * d(0.6, 1), device)
    return chunks(count, make)


def smokes(count, device):
    """Plumes, low banks and puffs, from white to black."""
    px, py = planes(SIDE, device)

    def make(n):
        d = lambda low, high: draw(n, low, high, device)
        swirl, fine = clouds(n, SIDE, device, any_of(2, 6), any_of(2, 6)), clouds(n, SIDE, device, 9, 9, 4)
        up = (0.97 - py) / d(0.7, 1.0)
        spread = d(0.05, 0.2) + d(0.1, 0.45) * up.clamp(min=0)
        plume = 1.35 - (px - 0.5 - d(-0.3, 0.3) * up - (swirl - 0.5) * 0.35).abs() / spread + (swirl - 0.5)
        plume = plume.clamp(0, 1) * (1.15 - up).clamp(0, 1) * (up * 5 + 0.3).clamp(0, 1)
        bank = (1.3 - ((py - 0.75 + (swirl - 0.5) * 0.4) / d(0.08, 0.3)).abs() - (2 * px - 1) ** 2 * 0.6).clamp(0, 1)
        puff = (1.2 - (((px - 0.5) / d(0.2, 0.45)) ** 2 + ((py - 0.5) / d(0.2, 0.45)) ** 2) ** 0.5 + (swirl - 0.5) * d(0.5, 1.6)).clamp(0, 1)
        kind = d(0, 1)
        body = torch.where(kind < 0.5, plume, torch.where(kind < 0.7, bank, puff))
        holes = (swirl * 1.9 - d(0.0, 0.45) + (fine - 0.5) * 0.6).clamp(0, 1)
        alpha = (body * holes * d(1.0, 3.5)).clamp(0, 1)
        tone = d(0.05, 0.97) + (fine - 0.5) * d(0, 0.4) + (swirl.roll((6, 4), (2, 3)) - swirl) * d(0, 1.2)
        tint = 1 + (torch.rand(n, 3, 1, 1, device=device) - 0.5) * 0.12
        return sprite(tone * tint, alpha, device)
    return chunks(count, make)


def lamps(count, device):
    """Lamps, pairs of lights, lights on wet ground, hi-vis, panels: bright and never a flame."""
    px, py = planes(SIDE, device)
    palette = torch.tensor([[1, 0.85, 0.55], [1, 0.65, 0.2], [1, 0.1, 0.08], [0.95, 0.45, 0.05], [0.85, 1, 0.1],
                            [1, 1, 0.95], [1, 0.8, 0.1], [0.85, 0.85, 0.85], [0.6, 0.6, 0.62], [0.9, 0.9, 1]], device=device)

    def make(n):
        d = lambda low, high: draw(n, low, high, device)
        colour = palette[torch.randint(0, len(palette), (n,), device=device)].view(n, 3, 1, 1)
        reach = d(0.02, 0.16)
        round_off = lambda x, y: torch.exp(-((((px - x) / d(0.6, 1.6)) ** 2 + (py - y) ** 2).sqrt() / reach)) * d(1.2, 2)
        one, pair = round_off(0.5, 0.4), round_off(0.25, 0.5) + round_off(0.75, 0.5)
        streak = torch.exp(-((px - 0.5) / reach).abs() * 1.5) * torch.exp(-(py - 0.4) / d(0.1, 0.4)) * (py > 0.4) * (clouds(n, SIDE, device, 12, 12, 3) * 1.6)
        panel = (((px - 0.5).abs() < d(0.05, 0.4)) & ((py - 0.5).abs() < d(0.05, 0.4))).float() * d(0.6, 1)
        stripes = panel * (((py * d(3, 14)) % 1) < d(0.3, 0.7))
        kind, alpha = d(0, 1), one
        for over, other in ((0.3, pair), (0.5, one + streak), (0.7, panel), (0.85, stripes)):
            alpha = torch.where(kind > over, other, alpha)
        alpha = alpha.clamp(0, 1)
        core = (alpha * 2 - 1).clamp(0, 1) * (kind < 0.7)
        return sprite(colour + core * 0.6, alpha, device)
    return chunks(count, make)


def cut_outs(images, boxes, smoke, device):
    """Labelled flames or smoke of training pictures (uint8, boxes of 0..1), freed from what is behind."""
    def make(images, boxes):
        n = len(images)
        d = lambda low, high: draw(n, low, high, device)
        zero = torch.zeros(n, device=device)
        x, y, w, h = boxes.unbind(1)
        theta = torch.stack([torch.stack([w, zero, 2 * x + w - 1], 1), torch.stack([zero, h, 2 * y + h - 1], 1)], 1)
        grid = F.affine_grid(theta, (n, 3, SIDE, SIDE), align_corners=False)
        part = F.grid_sample(images.float() / 255, grid, "bilinear", "border", align_corners=False)
        px, py = planes(SIDE, device)
        round_off = (1.2 - ((px * 2 - 1) ** 2 + (py * 2 - 1) ** 2)).clamp(0, 1)
        if smoke:
            alpha = (round_off * 1.6 * (clouds(n, SIDE, device, 3, 3) * 2 - 0.1)).clamp(0, 1)
        else:
            bright, warm = part.amax(1, keepdim=True), part[:, :1] - part[:, 2:]
            alpha = ((bright - 0.45) * 3).clamp(0, 1) * ((warm + 0.01) * 5).clamp(0, 1) * round_off
        return sprite(part, alpha, device)
    return torch.cat([make(images[at:at + CHUNK], boxes[at:at + CHUNK]) for at in range(0, len(images), CHUNK)])


def mosaics(count, cells, size):
    """Ground and cars from above: cells of bays side by side, one to four a side, `uint8`."""
    out = []
    for at in range(count):
        k = 1 + at % 4
        some = cells[torch.randint(0, len(cells), (k * k,), device=cells.device)]
        rows = some.view(k, k, 3, *cells.shape[-2:]).permute(2, 0, 3, 1, 4).reshape(1, 3, k * cells.shape[-2], k * cells.shape[-1])
        out.append(F.interpolate(rows.float(), (size, size), mode="bilinear", antialias=True).round().to(torch.uint8))
    return torch.cat(out)


def surfaces(count, size, others, device):
    """Asphalt, concrete, paving, gravel, snow, walls and skies that fill the picture, with stains, streaks, puddles
    and markings, `uint8`. `others` are pictures that a puddle may mirror."""
    px, py = planes(size, device)

    def across(n):
        """A coordinate at any angle, about -0.7 to 0.7, and its square neighbour."""
        turn = draw(n, 0, math.pi, device)
        return (px - 0.5) * turn.cos() + (py - 0.5) * turn.sin(), (py - 0.5) * turn.cos() - (px - 0.5) * turn.sin()

    def turned(noise):
        """Noise at any angle."""
        n = len(noise)
        turn = torch.rand(n, device=device) * 2 * math.pi
        theta = torch.stack([torch.stack([turn.cos(), -turn.sin(), turn * 0], 1), torch.stack([turn.sin(), turn.cos(), turn * 0], 1)], 1) * 0.7
        return F.grid_sample(noise, F.affine_grid(theta, noise.shape, align_corners=False), "bilinear", "reflection", align_corners=False)

    def make(n):
        d = lambda low, high: draw(n, low, high, device)
        rare = lambda share: d(0, 1) < share
        tint = 1 + (torch.rand(n, 3, 1, 1, device=device) - 0.5) * d(0.02, 0.35)
        x = d(0.1, 0.9) * tint * torch.ones(n, 3, size, size, device=device)
        x = x * (1 + (px - 0.5) * d(-0.5, 0.5) + (py - 0.5) * d(-0.8, 0.8))
        # Grain from the size of a pixel to that of a stone, and specks.
        for cells in (size, size // 2, size // 5, size // 12):
            grain = torch.rand(n, 1, cells, cells, device=device) - 0.5
            x = x * (1 + F.interpolate(grain, (size, size), mode="bilinear") * d(0, 0.35) * rare(0.7))
        specks = torch.rand(n, 1, size // 2, size // 2, device=device)
        x = x + F.interpolate((specks > 0.997).float(), (size, size), mode="bilinear") * d(-0.3, 0.6)
        # Streaks and stains keep the grain below them; that is what tells them from smoke.
        for drawn_out in (1, any_of(2, 5), any_of(4, 10)):
            noise = turned(clouds(n, size, device, any_of(1, 4) * drawn_out, any_of(1, 4), any_of(2, 5)))
            hard = d(1, 8)
            x = x * (1 + torch.tanh((noise - d(0.35, 0.65)) * hard) * d(-0.3, 0.4) * rare(0.7))
        # Joints, tracks and painted lines.
        along, beside = across(n)
        for axis in (along, beside):
            x = x * (1 - (((axis * d(2, 14)) % 1) < d(0.01, 0.06)).float() * d(0, 0.5) * rare(0.25))
        for _ in range(2):
            along, beside = across(n)
            line = torch.sigmoid((d(0.006, 0.03) - (along - d(-0.4, 0.4)).abs()) * 400) * (beside.abs() < d(0.1, 0.9))
            paint = torch.cat([d(0.7, 1), d(0.65, 1), d(0.2, 1)], 1)
            x = x + (paint - x) * line * d(0.5, 0.95) * rare(0.4)
            x = x * (1 - torch.exp(-(((along - d(-0.4, 0.4)) / d(0.02, 0.12)) ** 2)) * d(-0.25, 0.35) * rare(0.5))
        # A puddle mirrors something.
        shape = torch.sigmoid((clouds(n, size, device, any_of(2, 5), any_of(2, 5), 3) - d(0.55, 0.75)) * 40)
        mirrored = others[torch.randint(0, len(others), (n,), device=device)].flip(2).float() / 255
        mirrored = F.avg_pool2d(F.interpolate(mirrored, (size, size), mode="bilinear"), 7, 1, 3)
        wet = shape * d(0.3, 0.85) * rare(0.25)
        x = x * (1 - wet) + mirrored * d(0.5, 1.1) * wet
        # A sky instead: blue to grey, with clouds.
        sky = torch.cat([d(0.3, 0.8), d(0.5, 0.85), d(0.75, 1)], 1) * (1 - (1 - py) * d(0, 0.4))
        white = ((clouds(n, size, device, any_of(2, 6), any_of(2, 4)) - d(0.3, 0.6)) * d(1.5, 5)).clamp(0, 1)
        sky = sky * (1 - white) + d(0.7, 1) * white
        x = torch.where(rare(0.1), sky, x)
        along, _ = across(n)
        x = x * (1 - torch.sigmoid((along - d(-0.5, 0.5)) * d(10, 120)) * d(0.2, 0.6) * rare(0.3))
        return (x.clamp(0, 1) * 255).round().to(torch.uint8)
    return chunks(count, make)
