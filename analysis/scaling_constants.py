"""What the predictions of scaling.py stand on that is not arithmetic: each with unit and source."""
from collections import namedtuple

Constant = namedtuple("Constant", "name value unit source")
ENGINE = "design notes, engine.md"
CONSTANTS = (
    Constant("memory", 80e9, "B/GPU", "H100 80GB; of its 85.5e9 the rest is left to the CUDA "
             "context, the collectives' buffers and fragmentation"),
    Constant("hbm_rate", 3.0e12, "B/s", f"{ENGINE}: device copy measured on one H100"),
    Constant("gemm_rate", 650e12, "FLOP/s", f"{ENGINE} 2.2: matrices of an 8B training step"),
    Constant("decode_gemm_rate", 700e12, "FLOP/s", f"{ENGINE} 2.1"),
    Constant("attention_forward_rate", 540e12, "FLOP/s", f"{ENGINE} 3.3: target at 4k tokens; "
             "FlashAttention-3 published 579"),
    Constant("attention_backward_rate", 420e12, "FLOP/s", f"{ENGINE} 3.4: expected of the "
             "deterministic two-pass kernel, of 2.5 x forward operations"),
    Constant("elementwise_passes", 6.7, "1", f"{ENGINE} 2.2: 20.7 MB moved per token of 8B for "
             "3.10 MB kept, forward and backward"),
    Constant("forward_passes", 2.2, "1", "a third of elementwise_passes: assumed"),
    Constant("kernel_efficiency", 0.88, "1", f"{ENGINE} 2.2: 50 % MFU planned where 57 % is the "
             "sum of the parts"),
    Constant("decode_efficiency", 0.85, "1", f"{ENGINE} 5: share of the decoding floor that is "
             "planned; vLLM 0.10.2 reached 0.76 (1.3, 2.3)"),
    Constant("launch_seconds", 1.3e-6, "s/kernel", f"{ENGINE} 1.3: in a CUDA graph"),
    Constant("layer_kernels", 7, "1", f"{ENGINE} 3.5"),
    Constant("adamw_bytes", 30, "B/parameter", f"{ENGINE} 2.1"),
    Constant("leaf_bytes", 16, "B/element", "a gradient leaf is zeroed (4) and joined (12)"),
    Constant("gpus_per_node", 8, "1", "DGX H100"),
    Constant("nvlink_rate", 370e9, "B/s per GPU", f"{ENGINE} 2.3: bus bandwidth of an all-reduce"),
    Constant("network_rate", 40e9, "B/s per GPU", "DGX H100: 8 x 400 Gb/s InfiniBand a node; 80 % "
             "of it: assumed"),
    Constant("sum_latency", 6.3e-6, "s", f"{ENGINE} 2.3: one-shot all-reduce in a node; NCCL's: "
             "23e-6"),
    Constant("message_latency", 20e-6, "s", "one exchange between roles or nodes: assumed"),
    Constant("bucket_bytes", 1e9, "B", "gradients are exchanged in buckets of this size: assumed"),
    Constant("head_chunk", 2048, "tokens", f"{ENGINE} 2.4: rows of logits that exist at once"),
    Constant("text_bytes", 4, "B/token", "of a completion's text: assumed"),
    Constant("feedback_bytes", 200, "B", "of a verdict's words: assumed"),
)


Constants = namedtuple("Constants", [constant.name for constant in CONSTANTS])


class UnknownConstant(ValueError):
    pass


def constants(**overrides):
    """All constants as attributes. Raises UnknownConstant naming what there is."""
    values = {constant.name: constant.value for constant in CONSTANTS}
    for name, value in overrides.items():
        if name not in values:
            raise UnknownConstant(f"no constant {name}; there are {', '.join(values)}")
        values[name] = value
    return Constants(**values)


def rows(values):
    """For a table: name, value, unit, source; an overridden value has no source."""
    return [[c.name, f"{getattr(values, c.name):g}", c.unit,
             c.source if getattr(values, c.name) == c.value else "given on the command line"]
            for c in CONSTANTS]
