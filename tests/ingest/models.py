"""A small model in an ONNX file."""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#: Height and width of the images that it takes, and length of the vectors that it gives.
MODEL_SIDE, MODEL_WIDTH = 8, 24


def weights(n_values=MODEL_SIDE * MODEL_SIDE * 3):
    return np.random.default_rng(1).normal(size=(n_values, MODEL_WIDTH)).astype(np.float32)


def write_model(
    place, *, n_outputs=1, batch="N", shape=(3, MODEL_SIDE, MODEL_SIDE), nan_above=None, **said
):
    """Write a fixed random projection and a ReLU, of images in NCHW; and what is said of it."""
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["product"]),
        helper.make_node("Relu", ["product"], ["vector"]),
    ]
    values = {"w": weights(int(np.prod(shape)))}
    names = ["vector", "product"][:n_outputs]
    if nan_above is not None:
        # The root of what is negative has no value.
        values["limit"] = np.array(nan_above, np.float32)
        nodes[2:] = [
            helper.make_node("Sub", ["limit", "product"], ["less"]),
            helper.make_node("Sqrt", ["less"], ["vector"]),
        ]
    graph = helper.make_graph(
        nodes,
        "projection",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, MODEL_WIDTH])
            for name in names
        ],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, place)
    if said:
        place.with_suffix(".yaml").write_text(json.dumps(said))
    return place
