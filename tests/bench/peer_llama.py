#!/usr/bin/env python3
"""peer_llama.py MODEL_FOLDER [cpu [f32|bf16]]: llama.cpp, answering the commands of model_bench.cpp but for training.

The folder's weights, stored in bfloat16, are written once to a GGUF file of the wanted type beside them; no weight is quantised.
Beside "threads" a command takes "cache" (f16, llama.cpp's default, or the weights' type) and "flash" (its fused attention):
compare.py tries them and measures the fastest. No tokenizer is needed, all texts are tokens."""
import ctypes
import json
import math
import pathlib
import sys
import time

import gguf
import llama_cpp as llama
import numpy as np

FOLDER = pathlib.Path(sys.argv[1])
DTYPE = sys.argv[3] if len(sys.argv) > 3 else "f32"
TYPES = {name.lower(): kind for name, kind in gguf.GGMLQuantizationType.__members__.items()}
NAMES = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
PARTS = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "self_attn.o_proj": "attn_output",
         "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down"}


def gguf_name(name):
    words = name.removesuffix(".weight").removeprefix("model.").split(".")
    if words[0] == "layers":
        return f"blk.{words[1]}.{PARTS['.'.join(words[2:])]}.weight"
    return f"{NAMES[words[0]]}.weight"


def convert(folder, path):
    """model.safetensors of bfloat16 as a GGUF file; vectors in float32, as llama.cpp has them."""
    config = json.loads((folder / "config.json").read_text())
    data = np.memmap(folder / "model.safetensors", np.uint8, "r")
    begin = 8 + int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8:begin].tobytes())
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        if tensor["dtype"] != "BF16":
            sys.exit(f"{name} is stored in {tensor['dtype']}, not in BF16")
        first, last = (begin + offset for offset in tensor["data_offsets"])
        halves = data[first:last].view(np.uint16).reshape(tensor["shape"])
        if len(tensor["shape"]) == 1 or DTYPE == "f32":
            writer.add_tensor(gguf_name(name), (halves.astype(np.uint32) << 16).view(np.float32))
        else:
            writer.add_tensor(gguf_name(name), halves.view(np.uint8), raw_dtype=TYPES[DTYPE])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quiet(_level, _text, _data):
    pass


class Context:
    """Room for some sequences side by side."""

    def __init__(self, model, settings, sequences, tokens):
        wanted = llama.llama_context_default_params()
        wanted.n_ctx = sequences * (math.ceil(tokens / 256) * 256)  # each has the same part
        wanted.n_batch = wanted.n_ubatch = max(512, sequences * tokens if sequences * tokens <= 4096 else 512)
        wanted.n_seq_max = sequences
        wanted.n_threads = wanted.n_threads_batch = settings["threads"]
        wanted.type_k = wanted.type_v = TYPES[settings["cache"]].value
        wanted.flash_attn_type = 1 if settings["flash"] else 0
        self.context = llama.llama_init_from_model(model, wanted)
        if not self.context:
            sys.exit("llama.cpp: no context")
        self.batch = llama.llama_batch_init(wanted.n_batch, 0, 1)
        self.vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))

    def clear(self):
        llama.llama_memory_clear(llama.llama_get_memory(self.context), True)

    def compute(self, rows):
        """rows: (token, position, sequence, whether its logits are wanted). The wanted rows' logits, not copied."""
        for i, (token, position, sequence, wanted) in enumerate(rows):
            self.batch.token[i] = token
            self.batch.pos[i] = position
            self.batch.n_seq_id[i] = 1
            self.batch.seq_id[i][0] = sequence
            self.batch.logits[i] = wanted
        self.batch.n_tokens = len(rows)
        if llama.llama_decode(self.context, self.batch) != 0:
            sys.exit("llama.cpp: llama_decode failed")
        return [np.ctypeslib.as_array(llama.llama_get_logits_ith(self.context, i), (self.vocab,))
                for i, row in enumerate(rows) if row[3]]

    def close(self):
        llama.llama_batch_free(self.batch)
        llama.llama_free(self.context)


class Peer:
    def __init__(self):
        path = FOLDER / f"{DTYPE}.gguf"
        if not path.exists():
            convert(FOLDER, path.with_suffix(".part"))
            path.with_suffix(".part").rename(path)
        llama.llama_backend_init()
        wanted = llama.llama_model_default_params()
        wanted.n_gpu_layers = 0
        self.model = llama.llama_model_load_from_file(str(path).encode(), wanted)
        if not self.model:
            sys.exit(f"{path}: llama.cpp cannot read it")
        self.contexts = {}

    def context(self, command, sequences, tokens):
        settings = {"threads": command["threads"], "cache": command.get("cache", DTYPE), "flash": command.get("flash", False)}
        key = json.dumps([settings, sequences, tokens])
        if key not in self.contexts:
            for old in self.contexts.values():
                old.close()
            self.contexts = {key: Context(self.model, settings, sequences, tokens)}
        self.contexts[key].clear()
        return self.contexts[key]

    def prefill(self, command):
        text = command["sequences"][0]
        context = self.context(command, 1, len(text))
        start = time.perf_counter()
        context.compute([(token, i, 0, i + 1 == len(text)) for i, token in enumerate(text)])
        return {"seconds": time.perf_counter() - start}

    def decode(self, command):
        prompts, new = command["sequences"], command["new_tokens"]
        context = self.context(command, len(prompts), max(map(len, prompts)) + new)
        for s, prompt in enumerate(prompts):
            context.compute([(token, i, s, False) for i, token in enumerate(prompt[:-1])])
        last, drawn = [prompt[-1] for prompt in prompts], [[] for _ in prompts]
        llama.llama_synchronize(context.context)
        start = time.perf_counter()
        for step in range(new):
            rows = [(last[s], len(prompt) - 1 + step, s, True) for s, prompt in enumerate(prompts)]
            last = [int(logits.argmax()) for logits in context.compute(rows)]
            for s, token in enumerate(last):
                drawn[s].append(token)
        return {"seconds": time.perf_counter() - start, "tokens": drawn}

    def score(self, command):
        logprobs = []
        for text in command["sequences"]:
            context = self.context(command, 1, max(map(len, command["sequences"])))
            rows = context.compute([(token, i, 0, True) for i, token in enumerate(text)])
            values = []
            for logits, token in zip(rows, text[1:]):
                law = logits.astype(np.float64)
                most = law.max()
                values.append(float(law[token] - most - np.log(np.exp(law - most).sum())))
            logprobs.append(values)
        return {"logprobs": logprobs}


def main():
    callback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(quiet)
    llama.llama_log_set(callback, ctypes.c_void_p())
    peer = Peer()
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(getattr(peer, command["do"])(command)), flush=True)


if __name__ == "__main__":
    main()
