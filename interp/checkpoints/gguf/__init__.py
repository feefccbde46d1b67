"""GGUF files as base models: header, settings, tensors one at a time, and tokenizer.

The header is parsed and checked here; transformers and the `gguf` package never see a file. Format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. May import the plain modules of `interp`
and `interp.checkpoints.checks`.
"""
