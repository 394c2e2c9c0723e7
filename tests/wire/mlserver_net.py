"""A net for MLServer: flame where a picture is red, smoke where it is bright, as tests/nets/make.py has it."""
import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Fire(MLModel):
    async def load(self) -> bool:
        self.ready = True
        return True

    async def predict(self, payload):
        planes = NumpyCodec.decode_input(payload.inputs[0]).mean(axis=(2, 3))
        weights = np.array([[4, 1.5], [-3, 1.5], [-3, 1.5]])
        logits = (planes @ weights + np.array([-4.0, -6.0])).astype(np.float32)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("logits", logits)])
