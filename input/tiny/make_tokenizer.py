"""Learns the tokenizer of the rulebook world from text that it generates itself, and writes
tokenizer.json and tokenizer_config.json beside this file. Run once, with the package `tokenizers`:
    python make_tokenizer.py [folder]"""

import json
import pathlib
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, trainers

LETTERS = "abcdefghijkl"
TAGS = ["red", "blue", "green", "gold"]
NAMES = ["Reverse", "Sort", "Left", "Tail", "Next", "Right", "Back", "Fall", "Trim", "Odds"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
SAMPLES = 4000


def letters(rng):
    return "".join(" " + letter for letter in rng.sample(LETTERS, rng.randint(2, 6)))


def rulebook(rng):
    tags = [tag for tag in TAGS if rng.random() < 0.5]
    return "\n".join(["rules"] + [tag + rng.choice(NAMES) for tag in tags])


def record(rng):
    tag = rng.choice(TAGS)
    feedback = rng.choice(["right", "want" + letters(rng)])
    return f"{tag}{letters(rng)}\n{tag}{letters(rng)}\n{feedback}"


def samples(rng):
    for text in ["system\n", "user\n", "assistant\n", "improve the rules", "name the rule"] * 20:
        yield text
    for _ in range(SAMPLES):
        yield rulebook(rng)
        yield rng.choice(TAGS) + letters(rng)
        yield "\n\n".join([rulebook(rng)] + [record(rng) for _ in range(rng.randint(1, 3))])


def learn():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=460, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(samples(random.Random(0)), trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    return tokenizer


def main(argv):
    folder = pathlib.Path(argv[1] if len(argv) > 1 else pathlib.Path(__file__).parent)
    tokenizer = learn()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "Qwen2Tokenizer", "bos_token": None, "eos_token": SPECIAL[2],
              "pad_token": SPECIAL[0], "unk_token": None, "add_prefix_space": False,
              "clean_up_tokenization_spaces": False, "split_special_tokens": False,
              "model_max_length": 512, "chat_template": CHAT_TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    print(f"{tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main(sys.argv)
