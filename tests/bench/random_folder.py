"""A model folder with random weights in bfloat16, by the standard library alone."""
import json
import math
import pathlib
import random

ONE = b"\x80\x3f"  # 1.0
LOW = bytes(0x80 | byte for byte in range(256))   # last bit of the exponent 121, random mantissa
HIGH = bytes(0x3c | byte & 0x80 for byte in range(256))  # random sign: +-2^-6 (1 + m / 128)


def shapes(config):
    """The parameters in the order of the file: name to shape."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = config["head_dim"]
    q, kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    found = {"model.embed_tokens.weight": [config["vocab_size"], hidden]}
    for layer in range(config["num_hidden_layers"]):
        attention, mlp = (f"model.layers.{layer}.{part}." for part in ("self_attn", "mlp"))
        found |= {f"model.layers.{layer}.input_layernorm.weight": [hidden],
                  attention + "q_proj.weight": [q, hidden], attention + "k_proj.weight": [kv, hidden],
                  attention + "v_proj.weight": [kv, hidden], attention + "q_norm.weight": [head],
                  attention + "k_norm.weight": [head], attention + "o_proj.weight": [hidden, q],
                  f"model.layers.{layer}.post_attention_layernorm.weight": [hidden],
                  mlp + "gate_proj.weight": [inner, hidden], mlp + "up_proj.weight": [inner, hidden],
                  mlp + "down_proj.weight": [hidden, inner]}
    return found | {"model.norm.weight": [hidden]}


def values(dice, shape):
    count = math.prod(shape)
    if len(shape) == 1:
        return ONE * count
    noise = bytearray(2 * count)
    noise[0::2] = dice.randbytes(count).translate(LOW)
    noise[1::2] = dice.randbytes(count).translate(HIGH)
    return noise


def write(config, folder):
    """`config` as in config.json, with tied embeddings. Made once: an existing folder is left alone."""
    folder = pathlib.Path(folder)
    if (folder / "config.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    header, end = {}, 0
    for name, shape in shapes(config).items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    dice = random.Random(1)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes(config).values():
            file.write(values(dice, shape))
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
