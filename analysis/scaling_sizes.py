"""Sizes of the Qwen3 models and what they come to: parameters, operations, bytes. No times.

Formulas: engine.md, section 2.1; tests/analysis/scaling_test.py has its table."""
from collections import namedtuple

ACTIVATION = 2   # bytes of a saved activation: bfloat16
CACHED = 2       # bytes of a cached key or value element: bfloat16
WEIGHT = 2       # bytes of a weight that is multiplied: bfloat16

Sizes = namedtuple("Sizes", "name hidden layers heads kv_heads head_dim inner vocab tied")
MODELS = {sizes.name: sizes for sizes in (
    Sizes("0.6B", 1024, 28, 16, 8, 128, 3072, 151936, True),
    Sizes("1.7B", 2048, 28, 16, 8, 128, 6144, 151936, True),
    Sizes("4B", 2560, 36, 32, 8, 128, 9728, 151936, True),
    Sizes("8B", 4096, 36, 32, 8, 128, 12288, 151936, False),
    Sizes("14B", 5120, 40, 40, 8, 128, 17408, 151936, False),
    Sizes("32B", 5120, 64, 64, 8, 128, 25600, 151936, False))}


def from_config(config, name="model"):
    """Of a Hugging Face config.json that has been parsed."""
    return Sizes(name, config["hidden_size"], config["num_hidden_layers"],
                 config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"],
                 config["intermediate_size"], config["vocab_size"], config["tie_word_embeddings"])


def linear(s):
    """Elements of the matrices of all layers."""
    q, kv = s.heads * s.head_dim, s.kv_heads * s.head_dim
    return s.layers * s.hidden * (2 * q + 2 * kv + 3 * s.inner)


def parameters(s):
    norms = s.layers * (2 * s.hidden + 2 * s.head_dim) + s.hidden
    return linear(s) + norms + s.vocab * s.hidden * (1 if s.tied else 2)


def gradient_elements(s):
    """A tied embedding keeps one accumulator for each of its uses until a leaf is done."""
    return parameters(s) + (s.vocab * s.hidden if s.tied else 0)


def token_flop(s, head=True):
    """Of the matrices, forward, per token; `head`: with its logits."""
    return 2 * (linear(s) + (s.vocab * s.hidden if head else 0))


def attention_flop(s, length, context=0):
    """Forward, of `length` tokens after `context` others: scores and weighted values."""
    keys = length * context + length * (length + 1) / 2
    return 4 * s.layers * s.heads * s.head_dim * keys


def train_flop(s, length):
    """Forward and backward per token of one sequence, as model FLOP utilisation counts them."""
    return 3 * (token_flop(s) + attention_flop(s, length) / length)


def cache_bytes(s, tp=1):
    """Keys and values of one token on one rank."""
    return 2 * CACHED * s.layers * s.kv_heads * s.head_dim // tp


def decode_weight_bytes(s, tp=1):
    """Read once per decoding step, whatever the batch."""
    return WEIGHT * (linear(s) + s.vocab * s.hidden) / tp


def saved_bytes(s, tp=1, recompute=False):
    """Activations that the backward pass keeps per token; `recompute`: only each layer's input.

    Norms, SwiGLU and RoPE are always computed again. Under tensor parallelism the residual stream
    stays whole and the rest is shared."""
    residual = 2 * ACTIVATION * s.hidden
    if recompute:
        return ACTIVATION * s.hidden * s.layers
    q, kv = s.heads * s.head_dim, s.kv_heads * s.head_dim
    shared = 2 * (q + 2 * kv) + 2 * q + 4 * s.heads + 4 * s.inner
    return s.layers * (residual + shared / tp)


def layer_bytes(s, tp=1):
    """The working set of one layer per token, when the others are computed again."""
    return saved_bytes(s, tp) / s.layers
