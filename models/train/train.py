"""Makes the nets: `python train.py bay|fire --pack FILE --teacher-weights FILE --rendered DIR --out DIR`.

Owns the training loops: first a teacher (ImageNet weights) learns our task, then the small nets learn from it
and from the labels on far more pictures than were labelled. Each half ends by the clock (`--teacher-minutes`,
`--minutes`), on a GPU or on processors. A run that is cut keeps its last weights; `export.py` makes the files.
"""
import argparse
import copy
import pickle
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

import augment
import batches
import data
import net

SEED = 20261127


class Average:
    """Exponential moving average of the weights; what is evaluated and shipped."""

    def __init__(self, model, decay):
        self.model, self.decay, self.steps = copy.deepcopy(model).eval(), decay, 0

    def update(self, model):
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 10))
        with torch.no_grad():
            mine, new = list(self.model.state_dict().values()), list(model.state_dict().values())
            real = [(a, b) for a, b in zip(mine, new) if a.dtype.is_floating_point]
            torch._foreach_lerp_([a for a, _ in real], [b.to(a.dtype) for a, b in real], 1 - decay)


class Course:
    """One net in training: optimiser, schedule by the clock, average."""

    def __init__(self, model, rate, decay=0.05, average=0.998):
        self.model, self.rate = model, rate
        self.shadow = Average(model, average)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)

    def step(self, loss, progress):
        warm = 0.04
        rate = progress / warm if progress < warm else 0.5 * (1 + np.cos(np.pi * (progress - warm) / (1 - warm)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * max(rate, 0.003)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.shadow.update(self.model)


def masked(logits, labels, weights=None):
    """Mean of the losses of the labels that are known, with a little smoothing."""
    known = ~torch.isnan(labels)
    soft = torch.where(known, labels * 0.97 + 0.015, torch.zeros_like(labels))
    losses = F.binary_cross_entropy_with_logits(logits.float(), soft, reduction="none") * known
    return losses.sum() / known.sum().clamp(min=1), losses.detach()


class Task:
    """What both trainings need of a task; a subclass per task."""

    def __init__(self, args, device):
        self.args, self.device = args, device

    def normal(self, x):
        return ((x - augment.MEAN) / augment.STD).contiguous(memory_format=torch.channels_last)


class Bay(Task):
    name, teacher_batch, student_batch, classes = "bay", 256, 1024, 1

    def __init__(self, args, device, packed):
        super().__init__(args, device)
        splits = data.unpack_bays(packed, args.rendered)
        put = lambda a: torch.from_numpy(np.ascontiguousarray(a)).to(device)
        real, drawn = splits["train"], splits.get("rendered train")
        parts = [real] + ([drawn] if drawn else [])
        self.crops = torch.cat([put(p[0]).permute(0, 3, 1, 2) for p in parts])
        self.polys, self.labels = torch.cat([put(p[1]) for p in parts]), torch.cat([put(p[2]) for p in parts])
        weights = [torch.full((len(p[2]),), s / len(p[2])) for p, s in zip(parts, (0.82, 0.18))]
        self.weights = torch.cat(weights).to(device)
        self.checks = {k: (put(v[0]).permute(0, 3, 1, 2), put(v[1]), v[2]) for k, v in splits.items() if k in ("valid", "oblique", "rendered valid")}

    def batch(self, n, wide):
        picks = torch.multinomial(self.weights, n, replacement=True)
        x = batches.bay_batch(self.crops[picks], self.polys[picks], wide)
        labels = self.labels[picks, None]
        # Where polygons were moved far, only the teacher knows.
        return x, torch.full_like(labels, float("nan")) if wide else labels, picks

    def learned(self, picks, losses):
        pass

    def big(self, x):
        return self.normal(x)

    def small(self, x):
        return batches.bay_input(x)

    def ways(self, x):
        return x, x.flip(3), x.transpose(2, 3).contiguous(memory_format=torch.channels_last)

    def told(self, model, is_big):
        rows = []
        for name, (crops, polys, labels) in self.checks.items():
            logits = []
            for at in range(0, len(crops), 512):
                x = batches.bay_taps(crops[at:at + 512].float() / 255, polys[at:at + 512])
                logits.append(model(self.big(x) if is_big else self.small(x))[:, 0].float())
            right = (torch.cat(logits).cpu().numpy() > 0) == (labels > 0.5)
            rows.append(f"{name} {100 * right.mean():.2f}")
        return ", ".join(rows)


class Fire(Task):
    name, teacher_batch, student_batch, classes = "fire", 96, 512, 2
    PARTS = [(0, 0, 1), (0, 0, 0.6), (0.4, 0, 0.6), (0, 0.4, 0.6), (0.4, 0.4, 0.6)]

    def __init__(self, args, device, packed):
        super().__init__(args, device)
        splits = data.unpack_fire(packed, args.rendered)
        parts = [splits[k] for k in ("train", "rendered train") if k in splits]
        groups = sum((p[3] for p in parts), [])
        put = lambda a: torch.from_numpy(np.ascontiguousarray(a)).to(device)
        images = torch.cat([put(p[0]).permute(0, 3, 1, 2) for p in parts])
        labels, boxes = torch.cat([put(p[1]) for p in parts]), torch.cat([put(p[2]) for p in parts])
        # Cut-outs come from boxes that do not fill the picture, and not from drawn ones.
        fits = (boxes[..., 0] >= 0) & (boxes[..., 3] * boxes[..., 4] < 0.5)
        fits[len(parts[0][0]):] = False
        flames, smokes = (torch.nonzero(fits & (boxes[..., 0] == kind)) for kind in (0, 1))
        self.store = (images, labels, boxes, (flames, smokes))
        # Scene-balanced: a cluster of many frames counts as its square root; drawn scenes as a sixth.
        count = {g: groups.count(g) for g in set(groups)}
        shown = np.array([count[g] ** -0.5 for g in groups])
        positive = (torch.nan_to_num(labels) == 1).any(1).cpu().numpy()
        drawn = np.array([g == "rendered" for g in groups])
        shown[positive & ~drawn] *= 0.43 / shown[positive & ~drawn].sum()
        shown[~positive & ~drawn] *= 0.39 / shown[~positive & ~drawn].sum()
        if drawn.any():
            shown[drawn] *= 0.18 / shown[drawn].sum()
        self.weights = torch.from_numpy(shown).float().to(device)
        self.hard = torch.full((len(groups),), 0.1, device=device)
        self.checks = {k: (put(splits[k][0]).permute(0, 3, 1, 2), splits[k][1]) for k in ("valid", "rendered valid") if k in splits}

    def batch(self, n, wide):
        odds = self.weights * (0.05 + self.hard).clamp(max=1.0)
        picks = torch.multinomial(odds, n, replacement=True)
        x, labels = batches.fire_batch(self.store, picks, net.BIG_SIZE["fire"])
        return x, labels, picks

    def learned(self, picks, losses):
        """What is found hard is shown more often."""
        self.hard[picks] = self.hard[picks] * 0.9 + 0.1 * losses.sum(1)

    def big(self, x):
        return self.normal(x)

    def small(self, x):
        side = net.SHAPES["fire"]["size"]
        return self.normal(F.interpolate(x, (side, side), mode="bilinear", antialias=True, align_corners=False))

    def ways(self, x):
        side = x.shape[-1]
        a, b = (int(v) for v in torch.randint(0, side // 10, (2,)))
        keep = side - side // 10
        nearer = F.interpolate(x[:, :, a:a + keep, b:b + keep], (side, side), mode="bilinear", align_corners=False)
        gain = batches.uniform(x, 0.85, 1.15, len(x), 1, 1, 1)
        return x, x.flip(3), (nearer.flip(3) * gain).contiguous(memory_format=torch.channels_last)

    def told(self, model, is_big):
        rows, seen = [], {}
        for name, (images, labels) in self.checks.items():
            logits = []
            for at in range(0, len(images), 64):
                x, best = images[at:at + 64].float() / 255, None
                for left, top, side in self.PARTS:
                    a, b, s = (round(v * data.SIDE) for v in (left, top, side))
                    size = net.BIG_SIZE["fire"]
                    part = F.interpolate(x[:, :, b:b + s, a:a + s], (size, size), mode="bilinear", antialias=True, align_corners=False)
                    out = model(self.big(part) if is_big else self.small(part)).float()
                    best = out if best is None else torch.maximum(best, out)
                logits.append(best)
            seen[name] = (torch.cat(logits).cpu().numpy(), labels)
        for name, (logits, labels) in seen.items():
            quiet = logits[(labels == 0).all(1)]
            for column, kind in enumerate(("flame", "smoke")):
                cut = np.quantile(quiet[:, column], 0.99)
                there = logits[labels[:, column] == 1, column]
                rows.append(f"{name} {kind} {100 * (there > cut).mean():.1f} (cut {cut:.2f})")
        return ", ".join(rows)


def teach(task, teacher, minutes, cast):
    """Fine-tunes the teacher."""
    course = Course(teacher, task.args.teacher_rate, 0.02)
    began, step, told = time.time(), 0, time.time()
    while (progress := (time.time() - began) / (minutes * 60)) < 1:
        x, labels, picks = task.batch(task.teacher_batch, False)
        teacher.train()
        with cast:
            logits = teacher(task.big(x))
        loss, losses = masked(logits, labels)
        course.step(loss, progress)
        task.learned(picks, losses)
        step += 1
        if time.time() - told > 25:
            told = time.time()
            print(f"{task.name} teacher {step} steps, {100 * progress:.0f} %, loss {loss.item():.4f}", flush=True)
    shadow = course.shadow.model
    settle(task, shadow, cast)
    save(task, shadow, "big")
    with torch.no_grad(), cast:
        print(f"{task.name} TEACHER {step} steps: {task.told(shadow, True)}", flush=True)
    return shadow


def settle(task, model, cast):
    """The averaged weights want their own statistics of the batches."""
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
        norm.train()
    with torch.no_grad(), cast:
        for _ in range(task.args.settle):
            x, _, _ = task.batch(task.teacher_batch * 2, False)
            model(task.big(x) if isinstance(model, net.Teacher) else task.small(x))
    model.eval()


def distil(task, teacher, students, minutes, cast):
    """The small nets learn the teacher's opinion and its features, and the labels where there are some."""
    teacher.eval().requires_grad_(False)
    wide = teacher.head.in_features
    for student in students.values():
        student.project = torch.nn.Linear(student.head.in_features, wide).to(task.device)
    courses = {name: Course(student, task.args.rate, 0.05, 0.999) for name, student in students.items()}
    began, step, told, size = time.time(), 0, time.time(), int(task.student_batch * task.args.scale)
    while (progress := (time.time() - began) / (minutes * 60)) < 1:
        x, labels, picks = task.batch(size, task.name == "bay" and step % 4 == 3)
        with torch.no_grad(), cast:
            known = teacher.features(task.big(x)).float()
            opinion = teacher.head(known).float()
        # Making a batch and asking the teacher costs most: every batch is shown in some more ways.
        for small in task.ways(task.small(x)):
            for name, course in courses.items():
                model = course.model.train()
                with cast:
                    features = model.features(small)
                    logits, guess = model.head(features).float(), model.project(features).float()
                hard, _ = masked(logits, labels)
                soft = F.binary_cross_entropy_with_logits(logits, torch.sigmoid(opinion))
                alike = 1 - F.cosine_similarity(guess, known).mean()
                course.step(0.3 * hard + 0.7 * soft + 0.5 * alike, progress)
        if task.name == "fire":
            task.learned(picks, F.binary_cross_entropy_with_logits(opinion, torch.nan_to_num(labels), reduction="none") * ~torch.isnan(labels))
        step += 1
        if time.time() - told > 40:
            told = time.time()
            print(f"{task.name} students {step} steps, {100 * progress:.0f} %, soft {soft.item():.4f}", flush=True)
            for name, course in courses.items():
                save(task, course.shadow.model, name)
    for name, course in courses.items():
        model = course.shadow.model
        settle(task, model, cast)
        save(task, model, name)
        with torch.no_grad():
            print(f"{task.name} {name.upper()} {step} steps of {size}: {task.told(model, False)}", flush=True)


def full(weights):
    """Weights in 32 bits, whether they were saved in 32, 16 or (value, scale) 8."""
    whole = lambda v: v[0].float() * v[1].float() if isinstance(v, tuple) else v.float() if v.is_floating_point() else v
    return {key: whole(value) for key, value in weights.items()}


def save(task, model, name):
    weights = {k: v.half() if name == "big" and v.is_floating_point() else v for k, v in model.state_dict().items() if not k.startswith("project.")}
    torch.save(weights, task.args.out / f"{task.name}-{name}.pt")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["bay", "fire"])
    parser.add_argument("--pack", type=Path, required=True, help="made by `python data.py DATA PACK`")
    parser.add_argument("--rendered", type=Path, help="folder with train/ and valid/ made by `simulators render`")
    parser.add_argument("--teacher-weights", type=Path, help="ImageNet weights of the teacher")
    parser.add_argument("--teacher", type=Path, help="a teacher that was fine-tuned before: skips the first half")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--teacher-minutes", type=float, default=2.0)
    parser.add_argument("--minutes", type=float, default=2.5)
    parser.add_argument("--teacher-rate", type=float, default=4e-4)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the batch of the small nets")
    parser.add_argument("--settle", type=int, default=40)
    parser.add_argument("--start", type=Path, help="weights of the small net to go on from")
    parser.add_argument("--control", action="store_true", help="also train the plain CNN of equal cost")
    args = parser.parse_args()
    torch.manual_seed(SEED)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    cast = torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda", cache_enabled=False)
    args.out.mkdir(parents=True, exist_ok=True)
    task = {"bay": Bay, "fire": Fire}[args.task](args, device, pickle.loads(args.pack.read_bytes()))
    teacher = net.Teacher(args.task, args.teacher_weights).to(device).to(memory_format=torch.channels_last)
    if args.teacher:
        teacher.load_state_dict(full(torch.load(args.teacher, map_location=device)))
    if args.teacher_minutes > 0:
        teacher = teach(task, teacher, args.teacher_minutes, cast)
    if args.minutes > 0:
        students = {"small": net.build(args.task)}
        if args.start:
            students["small"].load_state_dict(full(torch.load(args.start, map_location="cpu")))
        if args.control:
            students["control"] = net.Control(**net.SHAPES[args.task])
        students = {name: student.to(device).to(memory_format=torch.channels_last) for name, student in students.items()}
        distil(task, teacher, students, args.minutes, cast)


if __name__ == "__main__":
    main()
