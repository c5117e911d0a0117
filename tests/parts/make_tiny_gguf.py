"""Writes a tiny random llama model as a GGUF file, for a real inference server to load.

Usage: make_tiny_gguf.py OUT

Two blocks, width 64, four heads, float32, about half a megabyte: it answers in milliseconds, and what it says
means nothing. The vocabulary is the 256 bytes, the special tokens and a few words, so that any prompt can be
tokenized.
"""

import sys

import gguf
import numpy

WIDTH = 64
HEADS = 4
BLOCKS = 2
FEED_FORWARD = 128
CONTEXT = 2048
WORDS = ["the", "a", "token", "model", "span", "call", "and", "of", "is", "in", "one", "two"]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def vocabulary():
    """Tokens as (text, score, type)."""
    kind = gguf.TokenType
    yield "<unk>", 0.0, kind.UNKNOWN
    yield "<s>", 0.0, kind.CONTROL
    yield "</s>", 0.0, kind.CONTROL
    for byte in range(256):
        yield f"<0x{byte:02X}>", 0.0, kind.BYTE
    for rank, word in enumerate(WORDS):
        yield "\u2581" + word, -float(rank), kind.NORMAL


def main(out):
    tokens = list(vocabulary())
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(BLOCKS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _, _ in tokens])
    writer.add_token_scores([score for _, score, _ in tokens])
    writer.add_token_types([kind for _, _, kind in tokens])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(CHAT_TEMPLATE)

    random = numpy.random.default_rng(7)

    def add(name, *shape):
        writer.add_tensor(name, random.normal(0, 0.1, shape).astype(numpy.float32))

    def add_norm(name):
        writer.add_tensor(name, numpy.ones(WIDTH, dtype=numpy.float32))

    add("token_embd.weight", len(tokens), WIDTH)
    for block in range(BLOCKS):
        add_norm(f"blk.{block}.attn_norm.weight")
        for matrix in ["attn_q", "attn_k", "attn_v", "attn_output"]:
            add(f"blk.{block}.{matrix}.weight", WIDTH, WIDTH)
        add_norm(f"blk.{block}.ffn_norm.weight")
        add(f"blk.{block}.ffn_gate.weight", FEED_FORWARD, WIDTH)
        add(f"blk.{block}.ffn_up.weight", FEED_FORWARD, WIDTH)
        add(f"blk.{block}.ffn_down.weight", WIDTH, FEED_FORWARD)
    add_norm("output_norm.weight")
    add("output.weight", len(tokens), WIDTH)

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1])
