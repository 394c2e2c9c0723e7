"""Pictures into arrays: bay crops and fire pictures, with the splits that do not leak.

Owns what is read from which folder. Splits are by lot (the authors' own) for bays and by cluster of
frames for fire; never by picture, since neighbouring frames are nearly the same.
"""
import io
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

CELL = 96  # side of a stored bay crop, pixels
REACH = 1.2  # side of the square around a bay, in lengths of the polygon


def square_around(poly, width, height):
    """The square cut around a polygon given in pixels: left, top, side."""
    low, high = poly.min(0), poly.max(0)
    side = max((high - low).max() * REACH, 4.0)
    left, top = (low + high) / 2 - side / 2
    return left, top, side


def cut(image, poly):
    """A CELL x CELL crop around the polygon (pixels), edges replicated, and the polygon inside it."""
    left, top, side = square_around(poly, *image.size)
    pad = int(max(0, -left, -top, left + side - image.width, top + side - image.height)) + 1
    array = np.pad(np.asarray(image), ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    padded = Image.fromarray(array)
    box = (left + pad, top + pad, left + pad + side, top + pad + side)
    crop = padded.resize((CELL, CELL), Image.BILINEAR, box=box)
    return np.asarray(crop), (poly - [left, top]) * (CELL / side)


def bays_of_frames(root, frames):
    """Crops from whole frames: a list of (file, [(polygon 0..1, occupied)])."""
    crops, polys, labels, groups = [], [], [], []
    for name, bays in frames:
        image = Image.open(root / name).convert("RGB")
        size = np.array(image.size, dtype=np.float64)
        for poly, occupied in bays:
            crop, inside = cut(image, np.array(poly, dtype=np.float64) * size)
            crops.append(crop)
            polys.append(inside)
            labels.append(occupied)
            groups.append(name)
    return np.array(crops), np.array(polys, dtype=np.float32), np.array(labels, dtype=np.float32), groups


def acpds(data, split, sheets):
    """ACPDS bays of one of the authors' splits, from the sharp sheets or from the 640 px frames."""
    root = data / "parking_acpds"
    entries = [e for e in json.loads((root / "annotations.json").read_text()) if e["split"] == split]
    if not sheets:
        frames = [(e["frame"], [(b["poly"], b["occupied"]) for b in e["bays"]]) for e in entries]
        return bays_of_frames(root, frames)
    crops, polys, labels, groups = [], [], [], []
    for entry in entries:
        sheet = np.asarray(Image.open(root / entry["bays_image"]).convert("RGB"))
        for bay in entry["bays"]:
            row, column = divmod(bay["i"], entry["cols"])
            crops.append(sheet[row * CELL:(row + 1) * CELL, column * CELL:(column + 1) * CELL])
            polys.append(bay["poly_in_crop"])
            labels.append(bay["occupied"])
            groups.append(entry["frame"])
    return np.array(crops), np.array(polys, dtype=np.float32), np.array(labels, dtype=np.float32), groups


def oblique(data, every):
    """Another camera, never trained on: boxes as polygons, each `every`-th frame."""
    root = data / "parking_seq_oblique"
    entries = json.loads((root / "annotations.json").read_text())[::every]
    # A label fault of the source: in 42 of 130 frames two corners of a polygon stand where a box should, so
    # "boxes" cover half the picture of a camera that never moves. Those frames say nothing about bays.
    entries = [e for e in entries if np.median([b["box"][2] * b["box"][3] for b in e["boxes"]]) < 0.01]
    corners = lambda x, y, w, h: [[x, y], [x + w, y], [x + w, y + h], [x, y + h]]
    frames = [(e["frame"], [(corners(*b["box"]), b["occupied"]) for b in e["boxes"]]) for e in entries]
    return bays_of_frames(root, frames)


def rendered(folder):
    """Bays of scenes that the simulators drew."""
    entries = json.loads((folder / "labels.json").read_text())
    frames = [(e["file"], [(b["poly"], b["occupied"]) for b in e["bays"]]) for e in entries]
    return bays_of_frames(folder, frames)


class FirePicture:
    """One picture for the fire net. A label of None is unknown and does not count."""

    def __init__(self, path, flame, smoke, boxes, group, side=384):
        image = Image.open(path).convert("RGB")
        image.thumbnail((side, side), Image.BILINEAR)
        self.image, self.flame, self.smoke, self.boxes, self.group = image, flame, smoke, boxes, group


def fire_pictures(data, rendered_folder=None, side=384):
    """All pictures for the fire net: (training, validation)."""
    pictures = []
    cctv = data / "fire_cctv"
    for e in json.loads((cctv / "labels.json").read_text()):
        smoke = None if e["fire"] and not e["smoke"] else e["smoke"]
        pictures.append((cctv / e["file"], e["fire"], smoke, e["boxes"], f"cctv-{e['cluster']}"))
    web = data / "fire_web"
    for e in json.loads((web / "labels.json").read_text()):
        fire = e["label"] == "fire"
        controlled = e["label"] == "controlled_flame"
        flame = None if controlled else fire
        pictures.append((web / e["file"], flame, None if fire else False, [], f"web-{e['file']}"))
    for path in sorted((data / "neg_street_coco" / "images").glob("*.jpg")):
        pictures.append((path, False, False, [], f"coco-{path.name}"))
    for path in sorted((data / "parking_acpds" / "frames").glob("*.jpg")):
        pictures.append((path, False, False, [], f"lot-{path.name}"))
    for path in sorted((data / "photos").glob("*")):
        pictures.append((path, False, False, [], f"photo-{path.name}"))
    train, valid = [], []
    for path, flame, smoke, boxes, group in pictures:
        # A stable split by group: every fifth group validates.
        target = valid if sum(group.encode()) % 5 == 0 else train
        target.append(FirePicture(path, flame, smoke, boxes, group, side))
    if rendered_folder:
        for e in json.loads((rendered_folder / "labels.json").read_text()):
            train.append(FirePicture(rendered_folder / e["file"], e["fire"], e["smoke"], e["boxes"], "rendered"))
    return train, valid


def fire_pictures_of(folder):
    """All scenes of one folder that the simulators drew, for evaluation."""
    entries = json.loads((folder / "labels.json").read_text())
    return [FirePicture(folder / e["file"], e["fire"], e["smoke"], e["boxes"], "rendered") for e in entries]


SIDE = 352  # side of a packed fire picture: stretched, as the gateway stretches every part
NEAR = 180  # pictures that `from_above` makes


def from_above(data):
    """Ground and cars of unseen lots as a camera straight above sees them, without fire: cells of bays side by side,
    and small pieces of frames. Always the same ones; never trained on."""
    rng = np.random.default_rng(20261127)
    root, pictures = data / "parking_acpds", []
    entries = [e for e in json.loads((root / "annotations.json").read_text()) if e["split"] == "valid"]
    for at in range(NEAR):
        entry = entries[at % len(entries)]
        if at % 3 == 2:
            frame = Image.open(root / entry["frame"]).convert("RGB")
            side = int(frame.width * rng.uniform(0.1, 0.3))
            left, top = rng.integers(0, frame.width - side), rng.integers(0, frame.height - side)
            image = frame.crop((left, top, left + side, top + side))
        else:
            sheet, k = Image.open(root / entry["bays_image"]).convert("RGB"), 1 + at % 4
            image = Image.new("RGB", (k * CELL, k * CELL))
            for cell in range(k * k):
                row, column = divmod(int(rng.integers(len(entry["bays"]))), entry["cols"])
                box = (column * CELL, row * CELL, (column + 1) * CELL, (row + 1) * CELL)
                image.paste(sheet.crop(box), (cell % k * CELL, cell // k * CELL))
        pictures.append(Plain(image.resize((SIDE, SIDE), Image.BILINEAR), f"above-{entry['frame']}"))
    return pictures


class Plain:
    """A picture without flame and smoke."""

    def __init__(self, image, group):
        self.image, self.flame, self.smoke, self.boxes, self.group = image, False, False, [], group


def pack(data, out, drawn=None, bays_of_frame=None, quality=82):
    """All pictures as one small file, for training on another machine: split, compressed again. `drawn` is the
    folder of rendered scenes; `bays_of_frame` keeps only so many bays of each frame, which is enough for fire."""
    def shrunk(image):
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=quality)
        return buffer.getvalue()

    bays = []
    entries = json.loads((data / "parking_acpds" / "annotations.json").read_text())
    for entry in entries:
        sheet = Image.open(data / "parking_acpds" / entry["bays_image"]).convert("RGB")
        kept = entry["bays"]
        if bays_of_frame:
            kept, whole = kept[::max(1, len(kept) // bays_of_frame)], sheet
            sheet = Image.new("RGB", (entry["cols"] * CELL, -(-len(kept) // entry["cols"]) * CELL))
            for at, bay in enumerate(kept):
                row, column = divmod(bay["i"], entry["cols"])
                cell = whole.crop((column * CELL, row * CELL, (column + 1) * CELL, (row + 1) * CELL))
                sheet.paste(cell, (at % entry["cols"] * CELL, at // entry["cols"] * CELL))
        polys = [bay["poly_in_crop"] for bay in kept]
        labels = [bay["occupied"] for bay in kept]
        bays.append((shrunk(sheet), entry["cols"], polys, labels, entry["split"]))
    crops, polys, labels, _ = oblique(data, 10)
    strip = Image.fromarray(np.concatenate(list(crops), 1)[:, :CELL * 160])
    bays.append((shrunk(strip), 160, polys[:160].tolist(), labels[:160].tolist(), "oblique"))
    fire = []
    splits = list(zip(("train", "valid"), fire_pictures(data, side=640))) + [("above valid", from_above(data))]
    if drawn:
        splits += [(f"rendered {name}", fire_pictures_of(drawn / name)) for name in ("train", "valid")]
    for split, pictures in splits:
        for p in pictures:
            boxes = [(b["cls"], b["box"]) for b in p.boxes]
            fire.append((shrunk(p.image.resize((SIDE, SIDE), Image.BILINEAR)), p.flame, p.smoke, boxes, p.group, split))
    out.write_bytes(pickle.dumps({"bays": bays, "fire": fire}))


def unpack_bays(packed, rendered_folder=None):
    """{split: (crops, polygons, labels)} of uint8 crops."""
    splits = {}

    def sheet(entry):
        pixels = np.asarray(Image.open(io.BytesIO(entry[0])).convert("RGB"))
        cells = [divmod(i, entry[1]) for i in range(len(entry[3]))]
        return [pixels[r * CELL:(r + 1) * CELL, c * CELL:(c + 1) * CELL] for r, c in cells]

    with ThreadPoolExecutor() as pool:
        for entry, crops in zip(packed["bays"], pool.map(sheet, packed["bays"])):
            into = splits.setdefault(entry[4], ([], [], []))
            into[0].extend(crops)
            into[1].extend(entry[2])
            into[2].extend(entry[3])
    if rendered_folder:
        for name in ("train", "valid"):
            crops, polys, labels, _ = rendered(rendered_folder / name)
            splits[f"rendered {name}"] = (list(crops), polys.tolist(), labels.tolist())
    return {k: (np.array(c), np.array(p, dtype=np.float32), np.array(l, dtype=np.float32)) for k, (c, p, l) in splits.items()}


def unpack_fire(packed):
    """{split: (images, labels, boxes, groups)}; unknown labels are nan, boxes (class, x, y, w, h), class -1 = none."""
    rows = packed["fire"]
    with ThreadPoolExecutor() as pool:
        images = list(pool.map(lambda row: np.asarray(Image.open(io.BytesIO(row[0])).convert("RGB")), rows))
    splits = {}
    for image, (_, flame, smoke, boxes, group, split) in zip(images, rows):
        into = splits.setdefault(split, ([], [], [], []))
        into[0].append(image)
        if split == "rendered train":
            # A plume of a few pixels far away: nobody could tell.
            seen = lambda kind: max((b[2] * b[3] for k, b in boxes if k == kind), default=0) > 0.003
            flame, smoke = (flame and (seen("fire") or None)), (smoke and (seen("smoke") or None))
        into[1].append([np.nan if v is None else float(v) for v in (flame, smoke)])
        table = np.full((8, 5), -1.0, dtype=np.float32)
        for i, (kind, box) in enumerate(boxes[:8]):
            table[i] = [float(kind == "smoke"), *box]
        into[2].append(table)
        into[3].append(group)
    return {k: (np.array(i), np.array(l, dtype=np.float32), np.array(b), g) for k, (i, l, b, g) in splits.items()}


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description="packs all pictures: python data.py DATA PACK")
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rendered", type=Path, help="folder with train/ and valid/ made by `simulators render`")
    parser.add_argument("--bays-of-frame", type=int, help="keep only so many bays of each frame")
    parser.add_argument("--quality", type=int, default=82)
    args = parser.parse_args()
    pack(args.data, args.out, args.rendered, args.bays_of_frame, args.quality)
