"""onnxruntime's side of the bench: `onnxruntime_side.py FILE`; for each line in, the CPU ms of a run."""
import sys
import time

import numpy
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
wanted = session.get_inputs()[0]
picture = numpy.random.default_rng(1).uniform(-1, 1, wanted.shape).astype(numpy.float32)
runs = 4
session.run(None, {wanted.name: picture})
print("ready", flush=True)
for _ in sys.stdin:
    before = time.process_time()
    for _ in range(runs):
        session.run(None, {wanted.name: picture})
    print((time.process_time() - before) / runs * 1000, flush=True)
