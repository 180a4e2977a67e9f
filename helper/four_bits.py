"""A model of bitsandbytes in 4 bits that can be trained after it has answered.

Left out on purpose: loading it (`quantization_config` of transformers' `from_pretrained`, in the lesson).
"""

from torch import nn

REPACKS = "support_avx512bf16_for_cpu"  # bitsandbytes 0.50.2, nn.Linear4bit: no private name, and not documented


def keep_trainable(model: nn.Module) -> int:
    """Make 4-bit layers keep their bytes as they are; the number of layers that would have packed them anew.

    On a processor with AVX512-BF16 a layer of bitsandbytes packs its bytes in another order when it first computes in eval
    mode. Its forward pass then has no backward pass: what is trained in the layers below gets next to no gradient, with a
    warning only, and a merge reads the bytes in the wrong order. Call it before the model answers anything; afterwards it
    is too late. On other processors nothing changes.
    """
    layers = [part for part in model.modules() if getattr(part, REPACKS, False)]
    for layer in layers:
        setattr(layer, REPACKS, False)
    return len(layers)
