"""Trained weights into what the gateway loads: `python export.py --from DIR --data DIR --rendered DIR --out DIR`.

Owns ONNX files, calibration and the choice of the cut-offs. Every figure in a card comes from here.
`--params 1b` writes a net of the family with random weights, for measuring cost only.
"""
import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

import augment
import data
import net

HALVED_FROM = 512  # numbers in a weight that is stored as 16-bit floats


def golden_input(shape):
    """The picture-less input that every load of a model is checked with."""
    index = np.arange(int(np.prod(shape)), dtype=np.uint64)
    hashed = (index * 2654435761) % 2**32
    return ((hashed >> np.uint64(8)).astype(np.float64) / 16777216 * 2 - 1).astype(np.float32).reshape(shape)


def halve(path):
    """Stores the large weights as 16-bit floats with a cast behind each: half the file, 32-bit arithmetic."""
    model = onnx.load(str(path))
    kept, casts = [], []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < HALVED_FROM:
            kept.append(weight)
            continue
        kept.append(numpy_helper.from_array(values.astype(np.float16), weight.name + "_half"))
        casts.append(helper.make_node("Cast", [weight.name + "_half"], [weight.name], to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(casts + nodes)
    onnx.save(model, str(path))


def write_onnx(model, shape, path):
    torch.onnx.export(model, torch.zeros(shape), str(path), input_names=["image"], output_names=["logits"],
                      opset_version=17, dynamo=False)


def to_onnx(args, task, tier, model, mflop):
    """Writes the file and returns (the net that runs it, its manifest entry)."""
    name, shape = f"{task}-{tier}", net.SHAPES[task]
    size, channels = (shape["size"], shape["channels"]) if tier == "small" else (net.BIG_SIZE[task], 3)
    path = args.out / f"{name}.onnx"
    write_onnx(model, (1, channels, size, size), path)
    if tier == "big":
        halve(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    run = lambda x: np.concatenate([session.run(None, {"image": one[None]})[0] for one in np.asarray(x, dtype=np.float32)])
    golden = run(golden_input((1, channels, size, size)))[0]
    entry = {"id": name, "task": task, "tier": tier, "file": path.name,
             "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
             "width": size, "height": size, "channels": channels,
             "params": net.count_params(model), "mflop": mflop,
             "golden": [round(float(v), 5) for v in golden]}
    return run, entry


def temperature(logits, labels):
    """The divisor of the logits that makes the scores honest, by a line search."""
    tries = np.exp(np.linspace(np.log(0.5), np.log(4), 60))
    loss = lambda t: np.mean(np.logaddexp(0, -(2 * labels - 1) * logits / t))
    return float(min(tries, key=loss))


def wilson(hits, count):
    """95 % interval of a share."""
    if count == 0:
        return 0.0, 1.0
    z, share = 1.96, hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return middle - reach, middle + reach


def share(hits, count):
    low, high = wilson(hits, count)
    return f"{100 * hits / max(1, count):.1f} % ({hits}/{count}, 95 %: {100 * low:.1f}-{100 * high:.1f})"


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def bay_logits(run, crops, polys):
    out = []
    for at in range(0, len(crops), 256):
        images = torch.from_numpy(crops[at:at + 256]).permute(0, 3, 1, 2).float()
        out.append(run(augment.warp(images, torch.from_numpy(polys[at:at + 256])).numpy())[:, 0])
    return np.concatenate(out)


def dim_or_foggy(root, groups):
    """Which bays lie in frames that are dark or of little contrast, by the frame's own pixels."""
    known = {}
    for name in set(groups):
        grey = np.asarray(data.Image.open(root / name).convert("L"), dtype=np.float32)
        known[name] = bool(grey.mean() < 75 or grey.std() < 32)
    return np.array([known[name] for name in groups])


def bay(args, model):
    folded = net.fold_norms(model)
    run, entry = to_onnx(args, "bay", "small", folded, net.count_mflop(net.SHAPES["bay"]))
    checks = {"ACPDS unseen lots, sharp": data.acpds(args.data, "valid", True),
              "ACPDS unseen lots, 640 px frames": data.acpds(args.data, "valid", False),
              "another camera (oblique, never trained on)": data.oblique(args.data, 10),
              "our own renderer, other seed": data.rendered(args.rendered / "valid")}
    held = list(checks)[:2]
    logits = {name: bay_logits(run, crops, polys) for name, (crops, polys, _, _) in checks.items()}
    dim = dim_or_foggy(args.data / "parking_acpds", checks[held[1]][3])
    if dim.any():
        crops, polys, labels, groups = checks[held[1]]
        name = "of these, in dark or foggy frames"
        checks[name], logits[name] = (crops[dim], polys[dim], labels[dim], None), logits[held[1]][dim]
    all_logits = np.concatenate([logits[name] for name in held])
    all_labels = np.concatenate([checks[name][2] for name in held])
    entry["temperature"] = round(temperature(all_logits, all_labels), 3)
    scores = {name: sigmoid(values / entry["temperature"]) for name, values in logits.items()}
    # The narrowest band that leaves 99 % of the decided bays right, at most 10 % undecided.
    band = np.concatenate([scores[name] for name in held])
    right = (band > 0.5) == (all_labels > 0.5)
    doubt = np.minimum(band, 1 - band)
    cut = next((c for c in np.linspace(0.5, 0.05, 46) if right[doubt <= c].mean() >= 0.99), 0.05)
    cut = float(max(cut, np.quantile(doubt, 0.90)))
    entry["thresholds"] = {"free_below": round(min(cut, 0.49), 3), "occupied_above": round(max(1 - cut, 0.51), 3)}
    rows = []
    for name, (_, _, labels, _) in checks.items():
        guess = scores[name]
        decided = np.minimum(guess, 1 - guess) <= entry["thresholds"]["free_below"]
        good = (guess > 0.5) == (labels > 0.5)
        rows.append(f"| {name} | {share(int(good.sum()), len(good))} | {share(int((good & decided).sum()), int(decided.sum()))} | {100 * decided.mean():.1f} % |")
    write(args, entry, ["| pictures | accuracy, all bays | accuracy, decided bays | decided |", "|---|---|---|---|", *rows])


# The parts of a frame that the gateway looks at: the whole and four overlapping tiles.
PARTS = [(0, 0, 1, 1), (0, 0, 0.6, 0.6), (0.4, 0, 0.6, 0.6), (0, 0.4, 0.6, 0.6), (0.4, 0.4, 0.6, 0.6)]


def fire_scores(run, pictures, size):
    """The highest logit of all parts, as the gateway takes it; the cut-offs are chosen on this."""
    out = []
    for picture in pictures:
        w, h = picture.image.size
        boxes = [(x * w, y * h, (x + a) * w, (y + b) * h) for x, y, a, b in PARTS]
        parts = np.stack([np.asarray(picture.image.resize((size, size), 2, box=box), dtype=np.float32) for box in boxes])
        out.append(run(((parts / 255 - augment.MEAN) / augment.STD).transpose(0, 3, 1, 2)).max(0))
    return np.array(out)


def cut_offs(scores, quiet):
    """Cuts of doubt and alarm: over them lie at most 5 and 1 of 100 pictures without flame or smoke."""
    cuts = {}
    for level, share_over, low, high in (("doubtful", 0.05, 0.2, 0.95), ("alarm", 0.01, 0.5, 0.995)):
        for q in np.linspace(1 - share_over, 1, 60):
            pair = [float(np.clip(np.quantile(quiet[:, i], q) + 1e-4, low, high)) for i in range(2)]
            if (quiet >= pair).any(1).mean() <= share_over:
                break
        cuts[f"flame_{level}"], cuts[f"smoke_{level}"] = (round(v, 3) for v in pair)
    return cuts


def fire(args, model, tier):
    if tier == "small":
        model, mflop = net.fold_norms(model), net.count_mflop(net.SHAPES["fire"])
    else:
        mflop = 2 * 0.869e3 * (net.BIG_SIZE["fire"] / 260) ** 2  # published multiply-adds at 260 px
    run, entry = to_onnx(args, "fire", tier, model, round(mflop, 1))
    checks = {"real pictures, unseen scenes": data.fire_pictures(args.data, side=640)[1],
              "ground and cars from above, unseen lots": data.from_above(args.data),
              "our own renderer, other seed": data.fire_pictures_of(args.rendered / "valid")}
    logits = {name: fire_scores(run, pictures, entry["width"]) for name, pictures in checks.items()}
    real, pictures = logits["real pictures, unseen scenes"], checks["real pictures, unseen scenes"]
    known = [[(p.flame, p.smoke)[i] is not None for p in pictures] for i in range(2)]
    label = [np.array([bool((p.flame, p.smoke)[i]) for p in pictures]) for i in range(2)]
    flat = np.concatenate([real[known[i], i] for i in range(2)])
    entry["temperature"] = round(temperature(flat, np.concatenate([label[i][known[i]] for i in range(2)]).astype(float)), 3)
    scores = {name: sigmoid(values / entry["temperature"]) for name, values in logits.items()}
    clear = {name: np.array([p.flame is False and p.smoke is False for p in those]) for name, those in checks.items()}
    # Chosen on all clear pictures, real, from above and drawn: all are what a camera may show.
    cuts = entry["thresholds"] = cut_offs(scores, np.concatenate([scores[name][clear[name]] for name in checks]))
    rows = []
    for name, pictures in checks.items():
        guess = scores[name]
        alarm = (guess[:, 0] >= cuts["flame_alarm"]) | (guess[:, 1] >= cuts["smoke_alarm"])
        doubt = (guess[:, 0] >= cuts["flame_doubtful"]) | (guess[:, 1] >= cuts["smoke_doubtful"])
        flame = np.array([bool(p.flame) for p in pictures])
        smoke = np.array([bool(p.smoke) for p in pictures])
        for kind, those in (("flame", flame), ("smoke", smoke), ("either", flame | smoke), ("neither", clear[name])):
            scenes = len({p.group for p, there in zip(pictures, those) if there})
            count = int(those.sum())
            if count == 0:
                continue
            rows.append(f"| {name} | {kind} | {scenes} | {share(int((alarm & those).sum()), count)} | {share(int((doubt & those).sum()), count)} |")
    write(args, entry, ["| pictures | what is there | scenes | over the alarm cut | doubtful or over |", "|---|---|---|---|---|", *rows])


def write(args, entry, table):
    """The entry as JSON (assembled into manifest.toml by manifest.py) and the card's table."""
    (args.out / f"{entry['id']}.json").write_text(json.dumps(entry, indent=1))
    (args.out / f"{entry['id']}.table.md").write_text("\n".join(table) + "\n")
    print("\n".join(table), json.dumps(entry["thresholds"]), entry["temperature"], flush=True)


def load(model, paths):
    """A net with the mean of the weights of these files, which began as one net."""
    every = [torch.load(path, map_location="cpu") for path in paths]
    mean = lambda k, v: sum(w[k].float() for w in every) / len(every) if v.is_floating_point() else v
    model.load_state_dict({k: mean(k, v) for k, v in every[0].items()})
    return model.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nets", nargs="*", default=["bay-small", "fire-small", "fire-big"])
    parser.add_argument("--from", dest="source", type=Path, nargs="+", help="folders with the weights that train.py saved; of several, the mean")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rendered", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--params", choices=list(net.SIZES), help="instead: random weights of this size, for cost only")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.params:
        shape = net.of_size(args.params)
        model = net.Net(**shape).eval()
        for norm in (m for m in model.modules() if isinstance(m, torch.nn.LayerNorm)):
            # Alike, they would be written once and passed on by nodes that no trained net has.
            torch.nn.init.normal_(norm.weight, 1, 0.02)
            torch.nn.init.normal_(norm.bias, 0, 0.02)
        write_onnx(model, (1, 3, shape["size"], shape["size"]), args.out / f"random-{args.params}.onnx")
        print(f"{net.count_params(model)} parameters, {net.count_mflop(shape)} MFLOP, random weights")
        return
    for name in args.nets:
        task, tier = name.split("-")
        model = net.build(task) if tier == "small" else net.Teacher(task)
        model = load(model, [folder / f"{name}.pt" for folder in args.source])
        bay(args, model) if task == "bay" else fire(args, model, tier)


if __name__ == "__main__":
    main()
