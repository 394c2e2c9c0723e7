"""Makes the shipped nets: `python train.py bay|fire --data DIR [--rendered DIR] --out DIR`.

Owns the training loops. A run can be cut at any time: the best state so far is exported at each
evaluation, with its manifest entry and the table of its card (`export.py`).
"""
import argparse
import time
from pathlib import Path

import numpy as np
import torch

import augment
import data
import export
import net

SEED = 20261124


def schedule(optimizer, step, steps, peak):
    """Linear warm-up, then cosine."""
    warm = max(1, steps // 20)
    rate = peak * (step / warm if step < warm else 0.5 * (1 + np.cos(np.pi * (step - warm) / max(1, steps - warm))))
    for group in optimizer.param_groups:
        group["lr"] = rate


class Average:
    """Exponential moving average of the weights; what is evaluated and shipped."""

    def __init__(self, model, decay=0.995):
        self.model, self.decay, self.steps = net.copy.deepcopy(model), decay, 0

    def update(self, model):
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 10))
        with torch.no_grad():
            for mine, new in zip(self.model.state_dict().values(), model.state_dict().values()):
                if mine.dtype.is_floating_point:
                    mine.lerp_(new, 1 - decay)
                else:
                    mine.copy_(new)


def bay_batch(source, picks, rng):
    crops, polys, labels = source
    images = torch.from_numpy(crops[picks]).permute(0, 3, 1, 2).float()
    images = augment.light(augment.soften(images, rng), rng)
    turned = augment.jitter(torch.from_numpy(polys[picks]), rng, 0.025)
    return augment.warp(images, turned), torch.from_numpy(labels[picks])[:, None]


def bay_logits(model, crops, polys):
    out = []
    with torch.no_grad():
        for at in range(0, len(crops), 256):
            images = torch.from_numpy(crops[at:at + 256]).permute(0, 3, 1, 2).float()
            out.append(model(augment.warp(images, torch.from_numpy(polys[at:at + 256])))[:, 0])
    return torch.cat(out).numpy()


def train_bay(args):
    rng, numbers = torch.Generator().manual_seed(SEED), np.random.default_rng(SEED)
    parts = [data.acpds(args.data, "train", True), data.acpds(args.data, "train", False)]
    checks = {"ACPDS unseen lots, sharp": data.acpds(args.data, "valid", True),
              "ACPDS unseen lots, 640 px frames": data.acpds(args.data, "valid", False),
              "another camera (oblique, never trained on)": data.oblique(args.data, 10)}
    if args.rendered:
        parts.append(data.rendered(args.rendered / "train"))
        checks["our own renderer, other seed"] = data.rendered(args.rendered / "valid")
    source = [np.concatenate([part[i] for part in parts]) for i in range(3)]
    model = net.build("bay")
    if args.start:
        model.load_state_dict(torch.load(args.start))
    return loop(args, model, source, lambda picks: bay_batch(source, picks, rng), numbers, 128,
                lambda shadow: export.bay(args, shadow, checks, bay_logits))


def fire_sample(picture, rng, sprites):
    """One augmented 160 px picture with its two labels (nan = unknown)."""
    image, flame, smoke = picture.image, picture.flame, picture.smoke
    scale = rng.uniform(0.55, 1) if not picture.boxes else rng.uniform(0.45, 1)
    w, h = image.width * scale, image.height * scale * rng.uniform(0.85, 1)
    left, top = rng.uniform(0, image.width - w), rng.uniform(0, image.height - h)
    if picture.boxes and (flame or smoke):
        x, y, bw, bh = picture.boxes[rng.integers(len(picture.boxes))]["box"]
        cx, cy = (x + bw / 2) * image.width, (y + bh / 2) * image.height
        left = np.clip(cx - w * rng.uniform(0.2, 0.8), 0, image.width - w)
        top = np.clip(cy - h * rng.uniform(0.2, 0.8), 0, image.height - h)
    image = image.resize((160, 160), augment.Image.BILINEAR, box=(left, top, left + w, top + h))
    if flame is False and smoke is False and rng.random() < 0.35:
        kind = "flame" if rng.random() < 0.5 else "smoke"
        part = sprites[kind][rng.integers(len(sprites[kind]))]
        side = int(rng.uniform(0.12, 0.7) * 160)
        part = part.resize((side, int(side * rng.uniform(0.8, 1.6))), augment.Image.BILINEAR)
        image.paste(part, (int(rng.uniform(-0.1, 1) * (160 - side)), int(rng.uniform(0, 1) * max(1, 160 - part.height))), part)
        flame, smoke = kind == "flame", kind == "smoke"
    elif flame is False and rng.random() < 0.15:
        # Warm lamps and reflections: bright blobs without the shape of a flame.
        side = int(rng.uniform(4, 24))
        blob = augment.Image.new("RGB", (side, side), (255, int(rng.uniform(90, 230)), int(rng.uniform(0, 120))))
        image.paste(blob, (int(rng.uniform(0, 160 - side)), int(rng.uniform(0, 160 - side))))
    if rng.random() < 0.5:
        image = image.transpose(augment.Image.FLIP_LEFT_RIGHT)
    if rng.random() < 0.4:
        image = augment.compress(image, int(rng.uniform(25, 90)))
    unknown = lambda label: float("nan") if label is None else float(label)
    return np.asarray(image), unknown(flame), unknown(smoke)


def fire_batch(pictures, picks, numbers, rng, sprites):
    samples = [fire_sample(pictures[i], numbers, sprites) for i in picks]
    images = torch.from_numpy(np.stack([s[0] for s in samples])).permute(0, 3, 1, 2).float()
    images = augment.light(images, rng)
    return (images / 255 - augment.MEAN) / augment.STD, torch.tensor([s[1:] for s in samples])


def train_fire(args):
    rng, numbers = torch.Generator().manual_seed(SEED), np.random.default_rng(SEED)
    pictures, valid = data.fire_pictures(args.data, args.rendered / "train" if args.rendered else None)
    sprites = {kind: [augment.sprite(numbers, kind) for _ in range(60)] for kind in ("flame", "smoke")}
    groups = {}
    for picture in pictures:
        groups.setdefault(picture.group, []).append(picture)
    # Scene-balanced: a cluster of many frames counts as its square root.
    weights = np.array([len(groups[p.group]) ** -0.5 * (2.0 if p.flame or p.smoke else 1.0) for p in pictures])
    # Every batch draws by weight, whatever picks the loop proposes.
    batch = lambda picks: fire_batch(pictures, numbers.choice(len(pictures), len(picks), p=weights / weights.sum()), numbers, rng, sprites)
    model = net.build("fire")
    if args.start:
        model.load_state_dict(torch.load(args.start))
    checks = {"real pictures, unseen scenes": valid}
    if args.rendered:
        checks["our own renderer, other seed"] = data.fire_pictures_of(args.rendered / "valid")
    return loop(args, model, [np.zeros(len(pictures) * 2)], batch, numbers, 64,
                lambda shadow: export.fire(args, shadow, checks))


def loop(args, model, source, batch, numbers, size, evaluate):
    """Trains for args.epochs passes or args.minutes, whichever ends first; exports now and then."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=0.05)
    shadow, count = Average(model), len(source[0])
    steps, step, began, told = args.epochs * (count // size), 0, time.time(), time.time()
    print(f"{count} samples, {steps} steps, {net.count_params(model)} parameters", flush=True)
    while step < steps and time.time() - began < args.minutes * 60:
        order = numbers.permutation(count)
        for at in range(0, count - size + 1, size):
            images, labels = batch(order[at:at + size])
            schedule(optimizer, step, steps, args.rate)
            known = ~torch.isnan(labels)
            soft = torch.where(known, labels * 0.96 + 0.02, 0.0)
            model.train()
            losses = torch.nn.functional.binary_cross_entropy_with_logits(model(images), soft, reduction="none")
            loss = (losses * known).sum() / known.sum().clamp(min=1)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            shadow.update(model)
            step += 1
            if step % 50 == 0:
                left = (time.time() - began) / step * (steps - step)
                print(f"step {step}/{steps} loss {loss.item():.4f}, {left:.0f} s left", flush=True)
            if time.time() - told > args.evaluate_every or step == steps:
                told = time.time()
                evaluate(shadow.model)
                torch.save(shadow.model.state_dict(), args.out / f"{args.task}-small.pt")
            if step >= steps or time.time() - began > args.minutes * 60:
                break
    evaluate(shadow.model)
    torch.save(shadow.model.state_dict(), args.out / f"{args.task}-small.pt")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["bay", "fire"])
    parser.add_argument("--data", type=Path, required=True, help="folder with parking_acpds, fire_cctv, ...")
    parser.add_argument("--rendered", type=Path, help="folder with train/ and valid/ made by `simulators render`")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="weights to go on from")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=600)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--evaluate-every", type=float, default=180)
    args = parser.parse_args()
    torch.manual_seed(SEED)
    args.out.mkdir(parents=True, exist_ok=True)
    {"bay": train_bay, "fire": train_fire}[args.task](args)


if __name__ == "__main__":
    main()
