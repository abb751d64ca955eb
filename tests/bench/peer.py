#!/usr/bin/env python3
"""peer.py MODEL_FOLDER [cpu|cuda [f32|bf16]]: transformers and torch, answering the commands of model_bench.cpp.

Beside "threads" a command takes "attention" (sdpa or eager) and, for training, "fused" (AdamW's kernel):
compare.py tries them and measures the fastest. Data is turned into tensors before the clock starts.
On a GPU TF32 is off, "limits" measures it, and every clock waits for it. In bf16 the model is loaded in it;
training keeps float32 weights and casts by autocast, which is what float32 masters ask for."""
import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

IGNORED = -100  # transformers' label of tokens without a loss


DEVICE = sys.argv[2] if len(sys.argv) > 2 else "cpu"
DTYPE = torch.bfloat16 if sys.argv[3:] == ["bf16"] else torch.float32


def now():
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def padded(texts, side):
    """Token ids, attention mask [texts, longest]."""
    longest = max(map(len, texts))
    ids = torch.zeros(len(texts), longest, dtype=torch.long)
    mask = torch.zeros(len(texts), longest, dtype=torch.long)
    for row, text in enumerate(texts):
        place = slice(0, len(text)) if side == "right" else slice(longest - len(text), longest)
        ids[row, place] = torch.tensor(text)
        mask[row, place] = 1
    return ids.to(DEVICE), mask.to(DEVICE)


class Peer:
    def __init__(self, folder):
        self.folder = folder
        self.model = self.load(DTYPE).eval()
        self.trainers = {}
        self.contexts = {}

    def load(self, dtype):
        model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=dtype).to(DEVICE)
        # Neither side stops early: both draw the same number of tokens.
        model.generation_config.eos_token_id = None
        model.generation_config.pad_token_id = 0
        return model

    def trainer(self, fused):
        """A model and its optimizer, as Optimizer's defaults in fst/learn/optimizer.h."""
        if fused not in self.trainers:
            model = self.load(torch.float32).train()
            self.trainers[fused] = model, torch.optim.AdamW(
                model.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0,
                fused=fused)
        return self.trainers[fused]

    def train(self, command):
        model, optimizer = self.trainer(command.get("fused", False))
        model.set_attn_implementation(command.get("attention", "sdpa"))
        ids, mask = padded(command["sequences"], "right")
        labels = ids.masked_fill(mask == 0, IGNORED)
        seconds, losses = [], []
        for _ in range(command["steps"]):
            start = now()
            loss = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
            seconds.append(now() - start)
        return {"seconds": seconds, "loss": losses}

    def sample(self, command):
        ids, mask = padded(command["sequences"], "left")
        seconds = []
        for _ in range(command["batches"]):
            start = now()
            out = self.model.generate(input_ids=ids, attention_mask=mask, do_sample=True,
                                      temperature=1.0, top_k=0, top_p=1.0,
                                      max_new_tokens=command["new_tokens"])
            seconds.append(now() - start)
            assert out.shape[1] == ids.shape[1] + command["new_tokens"]
        return {"seconds": seconds}

    def prefill(self, command):
        ids = torch.tensor(command["sequences"][:1], device=DEVICE)
        start = now()
        self.model(input_ids=ids, use_cache=True, logits_to_keep=1)
        return {"seconds": now() - start}

    def decode(self, command):
        """A bare loop over forward, which spares generate()'s bookkeeping."""
        prompts = torch.tensor(command["sequences"], device=DEVICE)
        last = prompts[:, -1:]
        known = self.model(input_ids=prompts[:, :-1], use_cache=True, logits_to_keep=1)
        cache = known.past_key_values
        tokens = []
        start = now()
        for _ in range(command["new_tokens"]):
            out = self.model(input_ids=last, past_key_values=cache, use_cache=True)
            last = out.logits[:, -1:].argmax(dim=-1)
            tokens.append(last)
        seconds = now() - start
        return {"seconds": seconds, "tokens": torch.cat(tokens, dim=1).tolist()}

    def score(self, command):
        logprobs = []
        for text in command["sequences"]:
            ids = torch.tensor([text], device=DEVICE)
            law = self.model(input_ids=ids, use_cache=False).logits[0, :-1].double().log_softmax(-1)
            logprobs.append(law.gather(1, ids[0, 1:, None])[:, 0].tolist())
        return {"logprobs": logprobs}

    def limits(self, _):
        """A large product, and reading one large vector and writing another: what the GPU can do."""
        n, reply = 8192, {}
        a, b = (torch.randn(n, n, device=DEVICE, dtype=DTYPE) for _ in range(2))
        for name, work, amount in (("flop", lambda: a @ b, 2 * n**3),
                                   ("byte", lambda: a.copy_(b), 2 * a.element_size() * n**2)):
            work()
            start = now()
            for _ in range(5):
                work()
            reply["bytes" if name == "byte" else name] = 5 * amount
            reply[f"{name}_seconds"] = now() - start
        return reply

    def answer(self, command):
        torch.set_num_threads(command["threads"])
        if command["do"] == "train":
            with torch.autocast(DEVICE, torch.bfloat16, enabled=DTYPE == torch.bfloat16):
                return self.train(command)
        self.model.set_attn_implementation(command.get("attention", "sdpa"))
        with torch.inference_mode():
            return getattr(self, command["do"])(command)


def main():
    disable_progress_bar()
    peer = Peer(sys.argv[1])
    for line in sys.stdin:
        print(json.dumps(peer.answer(json.loads(line))), flush=True)


main()
