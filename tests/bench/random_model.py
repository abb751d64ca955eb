#!/usr/bin/env python3
"""random_model.py CONFIG_JSON FOLDER: a model of that shape with random weights, stored in bfloat16."""
import json
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM, Qwen3Config
from transformers.utils.logging import disable_progress_bar


def main():
    disable_progress_bar()
    config = json.loads(pathlib.Path(sys.argv[1]).read_text())
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(Qwen3Config(**config), dtype=torch.float32)
    model.to(torch.bfloat16).save_pretrained(sys.argv[2])
    # As it is on the hub, not as this version of transformers writes it.
    (pathlib.Path(sys.argv[2]) / "config.json").write_text(json.dumps(config, indent=2) + "\n")


main()
