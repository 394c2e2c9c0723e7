"""Makes the nets of the tests: `python tests/nets/make.py tests/nets` (needs onnx and onnxruntime).

Each is a fire net (the last one a detector) for pictures of 3x64x64 in a few hundred bytes, of the kind that its
folder is called after:
  slow   computes for seconds before it answers: a child that runs it hangs
  nan    gives no number for dark pictures
  blind  says the same of everything
  big    sees flame where a picture is red and smoke where it is grey
  glare  finds no car in dark pictures and gives no number for bright ones
`entry.toml` is its entry in a manifest.
"""
import hashlib
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

SIDE = 64


def const(name, value):
    return numpy_helper.from_array(np.asarray(value, dtype=np.float32), name)


def ints(name, value):
    return numpy_helper.from_array(np.asarray(value, dtype=np.int64), name)


def channels():
    """Mean of each plane, [1, 3]."""
    return [helper.make_node("ReduceMean", ["image"], ["planes"], axes=[2, 3], keepdims=0)]


def slow():
    wide = 2048
    nodes = channels() + [
        helper.make_node("Slice", ["planes", "first", "second", "axis"], ["red"]),
        helper.make_node("Expand", ["red", "shape"], ["m0"]),
    ]
    for i in range(24):
        nodes += [helper.make_node("MatMul", [f"m{i}", f"m{i}"], [f"p{i}"]),
                  helper.make_node("Mul", [f"p{i}", "small"], [f"m{i + 1}"])]
    nodes += [helper.make_node("ReduceMean", ["m24"], ["all"], axes=[1], keepdims=0),
              helper.make_node("ReduceMean", ["all"], ["one"], axes=[0], keepdims=1),
              helper.make_node("Reshape", ["one", "single"], ["flat"]),
              helper.make_node("Mul", ["flat", "nothing"], ["zero"]),
              helper.make_node("MatMul", ["planes", "weights"], ["seen"]),
              helper.make_node("Add", ["seen", "zero"], ["logits"])]
    weights = np.array([[1, 0], [0, 1], [0.5, 0.5]])
    return nodes, [ints("first", [0]), ints("second", [1]), ints("axis", [1]), ints("shape", [wide, wide]),
                   ints("single", [1, 1]), const("small", 1 / wide), const("nothing", 1e-6), const("weights", weights)]


def nan():
    nodes = channels() + [
        helper.make_node("Add", ["planes", "one"], ["shifted"]),
        helper.make_node("Log", ["shifted"], ["logs"]),
        helper.make_node("MatMul", ["logs", "weights"], ["logits"]),
    ]
    return nodes, [const("one", 1.0), const("weights", [[1, 0], [0, 1], [0.5, 0.5]])]


def blind():
    nodes = channels() + [
        helper.make_node("Mul", ["planes", "nothing"], ["zero"]),
        helper.make_node("MatMul", ["zero", "weights"], ["seen"]),
        helper.make_node("Add", ["seen", "same"], ["logits"]),
    ]
    return nodes, [const("nothing", 0.0), const("same", [-3, -3]), const("weights", [[1, 0], [0, 1], [0.5, 0.5]])]


def big():
    # Planes are (v / 255 - 0.5) / 0.25. Red: flame; all three bright: smoke.
    weights = np.array([[4, 1.5], [-3, 1.5], [-3, 1.5]])
    nodes = channels() + [
        helper.make_node("MatMul", ["planes", "weights"], ["seen"]),
        helper.make_node("Add", ["seen", "bias"], ["logits"]),
    ]
    return nodes, [const("weights", weights), const("bias", [-4.0, -6.0])]


def glare():
    # Rows: centre, size and score of 84 boxes (8x8, 4x4 and 2x2 cells), all from one number.
    rows = np.zeros((1, 5, 84))
    rows[0, 4] = 0.1
    nodes = channels() + [
        helper.make_node("Sub", ["one", "planes"], ["dark"]),
        helper.make_node("Log", ["dark"], ["logs"]),
        helper.make_node("ReduceMean", ["logs"], ["score"], axes=[1], keepdims=1),
        helper.make_node("Reshape", ["score", "single"], ["cell"]),
        helper.make_node("Mul", ["cell", "rows"], ["logits"]),
    ]
    return nodes, [const("one", 1.0), ints("single", [1, 1, 1]), const("rows", rows)]


def golden_input(shape):
    index = np.arange(int(np.prod(shape)), dtype=np.uint64)
    hashed = (index * 2654435761) % 2**32
    return ((hashed >> np.uint64(8)).astype(np.float64) / 16777216 * 2 - 1).astype(np.float32).reshape(shape)


def save(folder, name, file, parts, shape_out):
    nodes, constants = parts
    shape = [1, 3, SIDE, SIDE]
    graph = helper.make_graph(nodes, name, [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
                              [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape_out)], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    golden = session.run(None, {"image": golden_input(shape)})[0].ravel()
    print(name, path.stat().st_size, golden[:2])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    size = f"width = {SIDE}\nheight = {SIDE}\nchannels = 3\n"
    return f'file = "{file}"\nsha256 = "{digest}"\n{size}', golden


def write(folder, name, tier, parts):
    lines, golden = save(folder, name, f"fire-{tier}.onnx", parts, [1, 2])
    (folder / "entry.toml").write_text(
        f'[[model]]\nid = "{name}"\ntask = "fire"\ntier = "{tier}"\n{lines}'
        f"golden = [{golden[0]:.6f}, {golden[1]:.6f}]\n"
        "thresholds = { flame_doubtful = 0.5, flame_alarm = 0.8, smoke_doubtful = 0.5, smoke_alarm = 0.8 }\n")


def write_detector(folder, name, parts):
    lines, _ = save(folder, name, "detector.onnx", parts, [1, 5, 84])
    (folder / "entry.toml").write_text(
        f'[[model]]\nid = "{name}"\ntask = "detect"\ntier = "own"\ndecoder = "yolov8"\n{lines}'
        'labels = ["car"]\nvehicles = ["car"]\n')


if __name__ == "__main__":
    to = Path(sys.argv[1])
    for make, tier in ((slow, "small"), (nan, "small"), (blind, "small"), (big, "big")):
        write(to / make.__name__, f"fire-{make.__name__}", tier, make())
    write_detector(to / "glare", "detect-glare", glare())
