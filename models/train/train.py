"""Makes the nets: `python train.py bay|fire --pack FILE --teacher-weights FILE --out DIR`.

Owns the training loops: first teachers (ImageNet weights) learn our task, side by side and each in its own way, and
the mean of their weights is the teacher; then the small nets learn from it and from the labels on far more
pictures than were labelled. Each half ends by the clock (`--teacher-minutes`, `--minutes`), on a GPU or on
processors. A run that is cut keeps its last weights; `export.py` makes the files.
"""
import argparse
import copy
import functools
import pickle
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

import augment
import banks
import batches
import data
import net

SEED = 20261127


class Average:
    """Exponential moving average of the weights; what is evaluated and shipped."""

    def __init__(self, model, decay):
        self.model, self.decay, self.steps = copy.deepcopy(model).eval(), decay, 0
        pairs = zip(self.model.state_dict().values(), model.state_dict().values())
        self.pairs = [(a, b) for a, b in pairs if a.dtype.is_floating_point]

    def update(self):
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 10))
        with torch.no_grad():
            torch._foreach_lerp_([a for a, _ in self.pairs], [b for _, b in self.pairs], 1 - decay)


class Course:
    """One net in training: optimiser, schedule by the clock, average. `groups` are (parameters, share of the rate)."""

    def __init__(self, model, groups, rate, decay=0.05, average=0.998):
        self.model, self.rate = model, rate
        self.shadow = Average(model, average)
        self.shares = [share for _, share in groups]
        self.parameters = [p for those, _ in groups for p in those]
        # On a GPU the rates stand in its memory, so that a recorded step sees them change.
        gpu = self.parameters[0].is_cuda
        begin = lambda: torch.zeros((), device="cuda") if gpu else rate
        self.optimizer = torch.optim.AdamW([{"params": those, "lr": begin()} for those, _ in groups], weight_decay=decay, fused=gpu, capturable=gpu)

    def pace(self, progress):
        """Sets the rate by how far the course has come."""
        warm = 0.04
        rate = progress / warm if progress < warm else 0.5 * (1 + np.cos(np.pi * (progress - warm) / (1 - warm)))
        for group, share in zip(self.optimizer.param_groups, self.shares):
            now = self.rate * share * max(rate, 0.003)
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(now)
            else:
                group["lr"] = now

    def step(self, loss):
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()


class Recorded:
    """Work on a GPU that is recorded once and played again: to start its hundreds of small pieces one by one costs more
    than to do them. What it returns lies in the same memory each time."""

    def __init__(self, work, device):
        self.work, self.graph, self.made = work, None, None
        self.plain = device != "cuda"

    def __call__(self):
        if self.plain:
            return self.work()
        if self.graph is None:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    self.work()
            torch.cuda.current_stream().wait_stream(side)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.made = self.work()
        self.graph.replay()
        return self.made


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
        return ((x - augment.MEAN) * (1 / augment.STD)).contiguous(memory_format=torch.channels_last)


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
        picks = batches.chosen(self.weights, n)
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
    name, teacher_batch, student_batch, classes = "fire", 128, 512, 2
    PARTS = [(0, 0, 1), (0, 0, 0.6), (0.4, 0, 0.6), (0, 0.4, 0.6), (0.4, 0.4, 0.6)]
    # Of a batch: real fire and smoke, drawn scenes, pictures without, views from above and surfaces; the rest
    # are composites.
    SHARES = (0.25, 0.10, 0.23, 0.16)

    def __init__(self, args, device, packed):
        super().__init__(args, device)
        splits = data.unpack_fire(packed)
        put = lambda a: torch.from_numpy(np.ascontiguousarray(a)).to(device)
        parts = [splits[k] for k in ("train", "rendered train") if k in splits]
        groups = sum((p[3] for p in parts), [])
        images = torch.cat([put(p[0]).permute(0, 3, 1, 2) for p in parts])
        self.labels, self.boxes = torch.cat([put(p[1]) for p in parts]), torch.cat([put(p[2]) for p in parts])
        positive = (torch.nan_to_num(self.labels, 1.0) > 0).any(1).cpu().numpy()
        drawn = np.array([g == "rendered" for g in groups])
        self.kitchen = self.stocked(images, groups, len(parts[0][0]), device)
        # Views from above: bays of the training lots side by side, and drawn surfaces.
        cells = data.unpack_bays(packed)["train"][0]
        cells = put(cells).permute(0, 3, 1, 2)
        count = lambda n: max(16, int(n * args.banks))
        clear = torch.nonzero(torch.from_numpy(~positive & ~drawn).to(device))[:, 0]
        ground = [banks.mosaics(count(700), cells, data.SIDE), banks.surfaces(count(1500), data.SIDE, images[clear], device)]
        textures = [i for i, g in enumerate(groups) if g.startswith("photo-texture")]
        self.images, self.first_ground = torch.cat([images, *ground]), len(images)
        # Scene-balanced: a cluster of many frames counts as its square root.
        size = {g: groups.count(g) for g in set(groups)}
        shown = torch.tensor([size[g] ** -0.5 for g in groups], device=device)
        rows = lambda mask: torch.from_numpy(np.flatnonzero(mask)).to(device)
        ground = torch.arange(self.first_ground, len(self.images), device=device)
        self.kinds = [(rows(m), shown[rows(m)]) for m in (positive & ~drawn, drawn, ~positive & ~drawn)]
        even = torch.ones(len(ground) + len(textures), device=device)
        even[len(ground):] = 25.0
        self.kinds.append((torch.cat([ground, torch.tensor(textures, dtype=torch.long, device=device)]), even))
        self.hard = torch.full((len(self.images),), 0.1, device=device)
        names = ("valid", "above valid", "rendered valid")
        self.checks = {k: (put(splits[k][0]).permute(0, 3, 1, 2), splits[k][1]) for k in names if k in splits}

    def stocked(self, images, groups, real, device):
        """The banks; cut-outs come from boxes that do not fill the picture, from whole photos of fire, not from drawn ones."""
        boxes = self.boxes
        fits = (boxes[..., 0] >= 0) & (boxes[..., 3] * boxes[..., 4] < 0.5)
        fits[real:] = False
        web = torch.tensor([g.startswith("web-") for g in groups], device=device) & (self.labels[:, 0] == 1)
        cuts = (*(torch.nonzero(fits & (boxes[..., 0] == kind)) for kind in (0, 1)), torch.nonzero(web)[:, 0])
        return batches.Kitchen(images, self.labels, boxes, cuts, device, self.args.banks)

    def pick(self, kind, n):
        rows, weights = self.kinds[kind]
        odds = weights * (0.05 + self.hard[rows]).clamp(max=1.0)
        return rows[batches.chosen(odds, n)]

    def batch(self, n, wide):
        size = net.BIG_SIZE["fire"]
        counts = [round(n * share) for share in self.SHARES]
        picks = [self.pick(kind, count) for kind, count in enumerate(counts)]
        plain = torch.cat(picks[:3])
        x, labels = batches.fire_crops(self.images[plain], self.labels[plain], self.boxes[plain], size)
        ground = batches.above(self.images[picks[3]], size)
        # Backgrounds for composites: any clear picture, a fifth of them from above.
        rest = n - sum(counts)
        low = rest // 5
        rows = self.pick(2, rest - low)
        below, _ = batches.fire_crops(self.images[rows], self.labels[rows], self.boxes[rows], size)
        below = torch.cat([below, batches.above(self.images[self.pick(3, low)], size)])
        below = below[batches.shuffled(rest, x.device)]
        made, known = self.kitchen.composites(below)
        x = torch.cat([x, ground, made])
        labels = torch.cat([labels, torch.zeros(counts[3], 2, device=x.device), known])
        mixed = batches.shuffled(n, x.device)
        self.order = mixed
        return self.kitchen.camera(x[mixed]), labels[mixed], torch.cat(picks)

    def learned(self, picks, losses):
        """What is found hard is shown more often; composites have no picture of their own."""
        back = torch.empty_like(losses)
        back[self.order] = losses
        self.hard[picks] = self.hard[picks] * 0.9 + 0.1 * back[:len(picks)].sum(1)

    def big(self, x):
        return self.normal(x)

    def small(self, x):
        return self.normal(batches.resized(x, net.SHAPES["fire"]["size"]))

    def ways(self, x):
        gain = batches.uniform(x, 0.85, 1.15, len(x), 1, 1, 1).to(x.dtype)
        return x, x.flip(3), (batches.nearer(x) * gain).contiguous(memory_format=torch.channels_last)

    @functools.cached_property
    def parts(self):
        """The parts of all pictures that are checked, each as the gateway cuts it."""
        size, parts = net.BIG_SIZE["fire"], {}
        for name, (images, _) in self.checks.items():
            parts[name] = []
            for left, top, side in self.PARTS:
                a, b, s = (round(v * data.SIDE) for v in (left, top, side))
                cut = [batches.resized(some[:, :, b:b + s, a:a + s].float() / 255, size) for some in images.split(64)]
                parts[name].append([c.to(banks.number(self.device)) for c in cut])
        return parts

    def told(self, model, is_big):
        logits, labels = {}, {}
        for name, (_, truth) in self.checks.items():
            out = []
            for pieces in zip(*self.parts[name]):
                with torch.autocast(self.device, enabled=False):
                    ready = [(self.big(p) if is_big else self.small(p)).float() for p in pieces]
                out.append(torch.stack([model(p).float() for p in ready]).amax(0))
            logits[name], labels[name] = torch.cat(out).cpu().numpy(), truth
        quiet = {name: logits[name][(labels[name] == 0).all(1)] for name in logits}
        rows = []
        for column, kind in enumerate(("flame", "smoke")):
            # Half of a hundredth each: both together alarm falsely about once in a hundred.
            cut = np.quantile(np.concatenate(list(quiet.values()))[:, column], 0.995)
            found = ", ".join(f"{name} {100 * (logits[name][labels[name][:, column] == 1, column] > cut).mean():.1f}"
                              for name in logits if (labels[name][:, column] == 1).any())
            false = ", ".join(f"{name} {(those[:, column] > cut).sum()}/{len(those)}" for name, those in quiet.items())
            rows.append(f"{kind} {found} (cut {cut:.2f}; false {false})")
        return "; ".join(rows)


def still(model):
    """In training, with the statistics of the batches as they are."""
    model.train()
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.eval()
    return model


def mean_of(models):
    """A net with the mean of the weights of nets that began as one."""
    whole = copy.deepcopy(models[0])
    states = [m.state_dict() for m in models]
    for key, value in whole.state_dict().items():
        if value.dtype.is_floating_point:
            value.copy_(sum(s[key] for s in states) / len(states))
    return whole.eval()


def teach(task, start, minutes, cast):
    """Fine-tunes teachers that begin as one: the second with half the rate and with pictures mixed. Returns their mean."""
    if not task.args.teacher:
        settle(task, start, cast)
    courses = [Course(model, model.layers(), task.args.teacher_rate * 0.5**i, 0.02)
               for i, model in enumerate(copy.deepcopy(start) for _ in range(task.args.teachers))]
    kept = torch.ones((), device=task.device)

    def lesson(course, mixed):
        x, labels, picks = task.batch(int(task.teacher_batch * task.args.scale), False)
        if mixed:
            x, labels = x * kept.to(x.dtype) + x.flip(0) * (1 - kept).to(x.dtype), labels * kept + labels.flip(0) * (1 - kept)
        x = task.big(x)
        with cast:
            logits = course.model(x)
        loss, losses = masked(logits, labels)
        course.step(loss)
        if not mixed:
            task.learned(picks, losses)
        return loss.detach()

    lessons = [Recorded(functools.partial(lesson, course, i == 1), task.args.plainly or task.device) for i, course in enumerate(courses)]
    for course, one in zip(courses, lessons):
        still(course.model)
        course.pace(0)
        one()
    timed(task, {f"lesson of teacher {i}": one for i, one in enumerate(lessons)})
    began, step, told = time.time(), 0, time.time()
    while (progress := (time.time() - began) / (minutes * 60)) < 1:
        for course, one in zip(courses, lessons):
            kept.fill_(float(np.random.beta(0.4, 0.4)))
            course.pace(progress)
            loss = one()
            course.shadow.update()
        step += 1
        if time.time() - told > 20:
            told = time.time()
            print(f"{task.name} teachers {step} steps, {100 * progress:.0f} %, loss {loss.item():.4f}", flush=True)
    shadows = [course.shadow.model for course in courses]
    whole = mean_of(shadows)
    if len(shadows) > 1:
        for i, shadow in enumerate(shadows):
            save(task, shadow, f"big-{i}")
    save(task, whole, "big")
    with torch.no_grad(), cast:
        named = {**{f"TEACHER {i}": s for i, s in enumerate(shadows)}, "MEAN": whole, "HALF BACK": mean_of([start, whole])}
        for name, model in named.items():
            print(f"{task.name} {name} {step} steps: {task.told(model.eval(), True)}", flush=True)
    return whole


def settle(task, model, cast):
    """The averaged weights want their own statistics of the batches."""
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    model.eval()
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
        norm.train()
    with torch.no_grad():
        for _ in range(task.args.settle):
            x, _, _ = task.batch(int(task.teacher_batch * 2 * task.args.scale), False)
            x = task.big(x) if isinstance(model, net.Teacher) else task.small(x)
            with cast:
                model(x)
    model.eval()


def timed(task, parts):
    """Says what the parts of a step cost, in milliseconds."""
    if task.device != "cuda":
        return
    for name, part in parts.items():
        for rounds in (2, 5):
            torch.cuda.synchronize()
            began = time.time()
            for _ in range(rounds):
                part()
            torch.cuda.synchronize()
        print(f"{task.name} {name}: {1000 * (time.time() - began) / rounds:.1f} ms", flush=True)


def distil(task, teacher, students, minutes, cast):
    """The small nets learn the teacher's opinion and its features, and the labels where there are some."""
    wide = teacher.head.in_features
    kind = banks.number(task.device)
    teacher = net.folded_teacher(teacher).to(kind).requires_grad_(False)
    for student in students.values():
        student.project = torch.nn.Linear(student.head.in_features, wide).to(task.device)
    courses = {name: Course(student, [(list(student.parameters()), 1.0)], task.args.rate, 0.05, 0.999) for name, student in students.items()}
    size = int(task.student_batch * task.args.scale)

    def shown(wide):
        """Pictures in some ways, what is known of them, and the teacher's opinion."""
        x, labels, picks = task.batch(size, wide)
        with torch.no_grad():
            known = teacher.features(task.big(x).to(kind)).float()
            opinion = F.linear(known, teacher.head.weight.float(), teacher.head.bias.float())
            if task.name == "fire":
                losses = F.binary_cross_entropy_with_logits(opinion, torch.nan_to_num(labels), reduction="none") * ~torch.isnan(labels)
                task.learned(picks, losses)
            # Making a batch and asking the teacher costs most: every batch is shown in some more ways.
            return [w.float() for w in task.ways(task.small(x))], labels, known, opinion

    plain = task.args.plainly or task.device
    shows = {wide: Recorded(functools.partial(shown, wide), plain) for wide in ((False, True) if task.name == "bay" else (False,))}
    views, labels, known, opinion = shows[False]()
    desk = [t.clone() for t in (views[0], labels, known, opinion)]

    def learn():
        """One step of every net on what lies on the desk."""
        small, labels, known, opinion = desk
        for course in courses.values():
            model = course.model
            with cast:
                features = model.features(small)
                logits, guess = model.head(features).float(), model.project(features).float()
            hard, _ = masked(logits, labels)
            soft = F.binary_cross_entropy_with_logits(logits, torch.sigmoid(opinion))
            alike = 1 - F.cosine_similarity(guess, known).mean()
            course.step(0.3 * hard + 0.7 * soft + 0.5 * alike)
        return soft.detach()

    for course in courses.values():
        course.model.train()
        course.pace(0)
    step_of_all = Recorded(learn, plain)
    step_of_all()
    timed(task, {"what is shown": shows[False], "a step": step_of_all})
    began, step, told = time.time(), 0, time.time()
    while (progress := (time.time() - began) / (minutes * 60)) < 1:
        views, *rest = shows[task.name == "bay" and step % 4 == 3]()
        for there, new in zip(desk[1:], rest):
            there.copy_(new)
        for small in views:
            desk[0].copy_(small)
            for course in courses.values():
                course.pace(progress)
            soft = step_of_all()
            for course in courses.values():
                course.shadow.update()
        step += 1
        if time.time() - told > 30:
            told = time.time()
            print(f"{task.name} students {step} steps, {100 * progress:.0f} %, soft {soft.item():.4f}", flush=True)
            for name, course in courses.items():
                save(task, course.shadow.model, name)
    for name, course in courses.items():
        model = course.shadow.model
        settle(task, model, cast)
        save(task, model, name)
        with torch.no_grad(), cast:
            print(f"{task.name} {name.upper()} {step} steps of {size}: {task.told(model, False)}", flush=True)


def full(weights):
    """Weights in 32 bits, whether they were saved in 32 or 16."""
    return {key: v.float() if v.is_floating_point() else v for key, v in weights.items()}


def save(task, model, name):
    weights = {k: v.half() if name.startswith("big") and v.is_floating_point() else v for k, v in model.state_dict().items() if not k.startswith("project.")}
    torch.save(weights, task.args.out / f"{task.name}-{name}.pt")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["bay", "fire"])
    parser.add_argument("--pack", type=Path, required=True, help="made by `python data.py DATA PACK`")
    parser.add_argument("--rendered", type=Path, help="for bays: folder with train/ and valid/ made by `simulators render`")
    parser.add_argument("--teacher-weights", type=Path, help="ImageNet weights of the teacher")
    parser.add_argument("--teacher", type=Path, nargs="+", help="teachers that were fine-tuned before: their mean is the start")
    parser.add_argument("--teachers", type=int, default=1, help="how many, side by side")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--teacher-minutes", type=float, default=2.0)
    parser.add_argument("--minutes", type=float, default=2.5)
    parser.add_argument("--teacher-rate", type=float, default=4e-4)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the batches, for a try on processors")
    parser.add_argument("--banks", type=float, default=1.0, help="of the banks, for a try on processors")
    parser.add_argument("--plainly", action="store_const", const="cpu", help="record nothing on the GPU")
    parser.add_argument("--settle", type=int, default=40)
    parser.add_argument("--start", type=Path, help="weights of the small net to go on from")
    parser.add_argument("--control", action="store_true", help="also train the plain CNN of equal cost")
    args = parser.parse_args()
    torch.manual_seed(SEED)
    np.random.seed(SEED % 2**32)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    cast = torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda", cache_enabled=False)
    args.out.mkdir(parents=True, exist_ok=True)
    began = time.time()
    task = {"bay": Bay, "fire": Fire}[args.task](args, device, pickle.loads(args.pack.read_bytes()))
    print(f"{args.task} ready after {time.time() - began:.0f} s", flush=True)
    fresh = lambda weights=None: net.Teacher(args.task, weights).to(device).to(memory_format=torch.channels_last)
    if args.teacher:
        known = [fresh() for _ in args.teacher]
        for model, path in zip(known, args.teacher):
            model.load_state_dict(full(torch.load(path, map_location=device)))
        teacher = mean_of(known)
    else:
        teacher = fresh(args.teacher_weights)
    if args.teacher_minutes > 0:
        teacher = teach(task, teacher, args.teacher_minutes, cast)
    if args.minutes > 0:
        students = {"small": net.build(args.task)}
        if args.start:
            students["small"].grow(full(torch.load(args.start, map_location="cpu")))
        if args.control:
            students["control"] = net.Control(**net.SHAPES[args.task])
        students = {name: student.to(device).to(memory_format=torch.channels_last) for name, student in students.items()}
        distil(task, teacher, students, args.minutes, cast)


if __name__ == "__main__":
    main()
