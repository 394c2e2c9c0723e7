"""Puts the exported nets into the shipped folder: `python manifest.py --from OUT --to models`.

Owns manifest.toml and the tables inside the model cards (between the two marks).
"""
import argparse
import json
import re
import shutil
from pathlib import Path


def toml(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="source", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    args = parser.parse_args()
    lines = ["# The shipped nets. Written by train/manifest.py; the gateway refuses a file whose hash or golden",
             "# output differs. Normalisation: (v / 255 - 0.5) / 0.25. See train/README.md.", ""]
    for path in sorted(args.source.glob("*-*.json")):
        entry = json.loads(path.read_text())
        shutil.copy(args.source / entry["file"], args.to / entry["file"])
        lines.append("[[model]]")
        lines += [f"{key} = {toml(value)}" for key, value in entry.items()]
        lines.append("")
        card = args.to / f"{entry['id']}.md"
        if card.exists():
            table = (args.source / f"{entry['id']}.table.md").read_text().strip()
            marked = re.sub(r"(?s)<!-- figures -->.*<!-- end -->", lambda _: f"<!-- figures -->\n{table}\n<!-- end -->", card.read_text())
            card.write_text(marked)
    (args.to / "manifest.toml").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
