"""Models as Keras describes them in JSON: the layers in the order in which they follow one another.

Sequential models, and functional ones of Keras 2 and 3 whose layers are one chain.
"""

from lstm_ext.io._common import FormatError, shorten

MAX_LAYERS = 1000


def ordered_layers(kind, configuration):
    """Return (layers, order) of a model.

    Parameters
    ----------
    kind : str
        Its class.
    configuration : dict
        As ``get_config`` has it.

    Returns
    -------
    layers : list of (class, configuration, name)
        In the order of the file, by which it names their weights.
    order : list of int
        Which of them come after one another, from the input on.
    """
    found = configuration["layers"]
    if not isinstance(found, list) or len(found) > MAX_LAYERS:
        raise FormatError(f"the model has more than {MAX_LAYERS} layers, or no list of them")
    layers = [
        (layer["class_name"], layer["config"], layer.get("name") or layer["config"].get("name"))
        for layer in found
    ]
    if kind == "Sequential":
        return layers, list(range(len(layers)))
    if kind not in ("Functional", "Model"):
        raise FormatError(
            f"the model is {shorten(kind)}; expected Sequential or Functional: give the layers themselves, "
            "from_keras([model.get_layer('lstm'), ...])"
        )
    before = {name: _before(name, layer) for (_, _, name), layer in zip(layers, found, strict=True)}
    numbers = {name: k for k, (_, _, name) in enumerate(layers)}
    if len(before) != len(layers):
        raise FormatError("two layers of the model have one name")
    outputs = _ends(configuration["output_layers"])
    if len(outputs) != 1:
        raise FormatError(f"the model has {len(outputs)} outputs; expected one: give the layers themselves")
    order, name = [], outputs[0]
    while name is not None:
        if name not in numbers or numbers[name] in order:
            raise FormatError(f"layer {shorten(name)} is none of the model, or stands in a cycle")
        order.append(numbers[name])
        name = before[name]
    beside = [name for name, k in numbers.items() if k not in order]
    if beside:
        raise FormatError(
            f"layer {shorten(beside[0])} is not on the one way from the input to the output; expected a "
            "chain of layers: give those of the LSTM themselves"
        )
    return layers, order[::-1]


def _before(name, layer):
    """Return the layer whose output this one reads, None of an input."""
    nodes = layer.get("inbound_nodes", [])
    if not nodes:
        return None
    if len(nodes) != 1:
        raise FormatError(f"layer {shorten(name)} is called {len(nodes)} times; expected once")
    node = nodes[0]
    sources = _sources(node) if isinstance(node, dict) else [_former(name, one) for one in node]
    if len(sources) != 1 or sources[0][1:] != [0, 0]:
        raise FormatError(
            f"layer {shorten(name)} reads {len(sources)} tensors, or another than the first output of a "
            "layer; expected one: masks and initial states go to the call of the LSTM here"
        )
    return sources[0][0]


def _former(name, source):
    """Return what a node of Keras 2 reads: [layer, node, tensor, keyword arguments]."""
    if len(source) > 3 and any(isinstance(value, (list, dict)) for value in source[3].values()):
        raise FormatError(
            f"layer {shorten(name)} reads another layer by name; expected one input: masks and initial "
            "states go to the call of the LSTM here"
        )
    return list(source[:3])


def _sources(node, depth=0):
    """Return what a node of Keras 3 reads, in its arguments and keyword arguments."""
    if depth > 16:
        raise FormatError("a layer's arguments are nested too deep")
    if isinstance(node, dict):
        if node.get("class_name") == "__keras_tensor__":
            return [list(node["config"]["keras_history"])]
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        return [found for value in node for found in _sources(value, depth + 1)]
    return []


def _ends(value):
    """Return the names of a model's outputs: [name, 0, 0], or a list or dict of them."""
    if isinstance(value, dict):
        value = list(value.values())
    if len(value) == 3 and isinstance(value[0], str):
        value = [value]
    return [one[0] for one in value]


def cells(configuration):
    """Return the configurations of LSTM layers that an ``RNN`` of ``LSTMCell``s is, first to last."""
    cell = configuration["cell"]
    inner = [cell] if cell["class_name"] != "StackedRNNCells" else cell["config"]["cells"]
    shared = {key: value for key, value in configuration.items() if key != "cell"}
    found = []
    for k, one in enumerate(inner):
        if one["class_name"] != "LSTMCell":
            raise FormatError(f"RNN holds {shorten(one['class_name'])}; expected LSTMCell")
        own = {**shared, **one["config"]}
        if k + 1 < len(inner):
            own["return_sequences"] = True
        if k:
            own["go_backwards"] = False  # the RNN turns its input round, for the first cell
        found.append(own)
    if not found:
        raise FormatError("RNN holds no cell")
    return found
