"""A trained net into what the gateway loads: ONNX, manifest entry with golden output, card table.

Owns calibration and the choice of the cut-offs. Every figure in a card comes from here.
"""
import hashlib
import json

import numpy as np
import onnxruntime
import torch

import net


def golden_input(shape):
    """The picture-less input that every load of a model is checked with."""
    index = np.arange(int(np.prod(shape)), dtype=np.uint64)
    hashed = (index * 2654435761) % 2**32
    return ((hashed >> np.uint64(8)).astype(np.float64) / 16777216 * 2 - 1).astype(np.float32).reshape(shape)


def to_onnx(args, model, name):
    """Writes the file and returns (session, entry) with hash, golden output and sizes."""
    shape = net.SHAPES[args.task]
    folded = net.fold_norms(model)
    path = args.out / f"{name}.onnx"
    example = torch.zeros(1, shape["channels"], shape["size"], shape["size"])
    torch.onnx.export(folded, example, str(path), input_names=["image"], output_names=["logits"],
                      opset_version=17, dynamo=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    golden = session.run(None, {"image": golden_input(example.shape)})[0].ravel()
    entry = {"id": name, "task": args.task, "tier": "small", "file": path.name,
             "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
             "width": shape["size"], "height": shape["size"], "channels": shape["channels"],
             "params": net.count_params(folded), "mflop": net.count_mflop(args.task),
             "golden": [round(float(v), 5) for v in golden]}
    return folded, entry


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


def bay(args, model, checks, logits_of):
    folded, entry = to_onnx(args, model, "bay-small")
    scores, rows = {}, []
    logits = {name: logits_of(folded, crops, polys) for name, (crops, polys, _, _) in checks.items()}
    held = ["ACPDS unseen lots, sharp", "ACPDS unseen lots, 640 px frames"]
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
    for name, (_, _, labels, _) in checks.items():
        guess = scores[name]
        decided = np.minimum(guess, 1 - guess) <= entry["thresholds"]["free_below"]
        good = (guess > 0.5) == (labels > 0.5)
        rows.append(f"| {name} | {share(int(good.sum()), len(good))} | {share(int((good & decided).sum()), int(decided.sum()))} | {100 * decided.mean():.1f} % |")
    write(args, entry, ["| pictures | accuracy, all bays | accuracy, decided bays | decided |", "|---|---|---|---|", *rows])


# The parts of a frame that the gateway looks at: the whole and four overlapping tiles.
PARTS = [(0, 0, 1, 1), (0, 0, 0.6, 0.6), (0.4, 0, 0.6, 0.6), (0, 0.4, 0.6, 0.6), (0.4, 0.4, 0.6, 0.6)]


def fire_scores(model, pictures):
    """The highest logit of all parts, as the gateway takes it; the cut-offs are chosen on this."""
    out = []
    with torch.no_grad():
        for picture in pictures:
            w, h = picture.image.size
            boxes = [(x * w, y * h, (x + a) * w, (y + b) * h) for x, y, a, b in PARTS]
            parts = np.stack([np.asarray(picture.image.resize((160, 160), 2, box=box), dtype=np.float32) for box in boxes])
            tensor = torch.from_numpy((parts / 255 - 0.5) / 0.25).permute(0, 3, 1, 2).float()
            out.append(model(tensor).amax(0).numpy())
    return np.array(out)


def fire(args, model, checks):
    folded, entry = to_onnx(args, model, "fire-small")
    logits = {name: fire_scores(folded, pictures) for name, pictures in checks.items()}
    real, pictures = logits["real pictures, unseen scenes"], checks["real pictures, unseen scenes"]
    known = [[(p.flame, p.smoke)[i] is not None for p in pictures] for i in range(2)]
    label = [np.array([bool((p.flame, p.smoke)[i]) for p in pictures]) for i in range(2)]
    flat = np.concatenate([real[known[i], i] for i in range(2)])
    entry["temperature"] = round(temperature(flat, np.concatenate([label[i][known[i]] for i in range(2)]).astype(float)), 3)
    scores = {name: sigmoid(values / entry["temperature"]) for name, values in logits.items()}
    clear = {name: np.array([not p.flame and not p.smoke and p.flame is not None for p in those]) for name, those in checks.items()}
    cuts = {}
    for i, kind in enumerate(("flame", "smoke")):
        # Chosen on all clear pictures, real and drawn: both are what a camera may show.
        quiet = np.concatenate([scores[name][clear[name], i] for name in checks])
        cuts[f"{kind}_doubtful"] = round(float(np.clip(np.quantile(quiet, 0.95), 0.3, 0.9)), 3)
        cuts[f"{kind}_alarm"] = round(float(np.clip(np.quantile(quiet, 0.99), 0.6, 0.99)), 3)
    entry["thresholds"] = cuts
    rows = []
    for name, pictures in checks.items():
        guess = scores[name]
        alarm = (guess[:, 0] >= cuts["flame_alarm"]) | (guess[:, 1] >= cuts["smoke_alarm"])
        doubt = (guess[:, 0] >= cuts["flame_doubtful"]) | (guess[:, 1] >= cuts["smoke_doubtful"])
        flame = np.array([bool(p.flame) for p in pictures])
        smoke = np.array([bool(p.smoke) for p in pictures])
        quiet = np.array([p.flame is False and p.smoke is False for p in pictures])
        for kind, those in (("flame", flame), ("smoke", smoke), ("neither", quiet)):
            scenes = len({p.group for p, there in zip(pictures, those) if there})
            count = int(those.sum())
            rows.append(f"| {name} | {kind} | {scenes} | {share(int((alarm & those).sum()), count)} | {share(int((doubt & those).sum()), count)} |")
    write(args, entry, ["| pictures | what is there | scenes | over the alarm cut | doubtful or over |", "|---|---|---|---|---|", *rows])


def write(args, entry, table):
    """The entry as JSON (assembled into manifest.toml by manifest.py) and the card's table."""
    (args.out / f"{entry['id']}.json").write_text(json.dumps(entry, indent=1))
    (args.out / f"{entry['id']}.table.md").write_text("\n".join(table) + "\n")
    print("\n".join(table), json.dumps(entry["thresholds"]), entry["temperature"], flush=True)
