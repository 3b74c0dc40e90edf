"""What the tuned lens cannot show: a middle layer that decodes to the pivot where the target comes out."""

from __future__ import annotations

import numpy as np
import torch

from babelscope.interp.anatomy import Anatomy
from babelscope.interp.observe import observe
from babelscope.interp.streams import PromptStream, TextStream
from babelscope.interp.tuned_lens import TunedTranslators
from babelscope.interp.working_language import WorkingLanguage
from babelscope.probes.identifiers import Probe, ProbeSet
from tests.questions import FEW

WORDS = ("length", "show", "text", "len", "print", "str", "count", "echo", "strval", *"abcdefghijkl")
CONCEPTS = (("length", "len", "count"), ("show", "print", "echo"), ("text", "str", "strval"))
PIVOT_FIRST = ProbeSet(
    tuple(
        Probe(concept, language, f"{words} {concept} ", identifier, " a")
        for concept, *identifiers in CONCEPTS
        for language, identifier in zip(("python", "php"), identifiers, strict=True)
        for words in ("a b", "c d e", "l k")
    )
)


def pivot_first_model(strength=4.0):
    """After a concept's word, block 2 writes Python's identifier and block 3 replaces it by PHP's."""
    from transformers import GPT2Config, GPT2LMHeadModel

    width = 64
    config = GPT2Config(
        vocab_size=len(WORDS), n_embd=width, n_layer=3, n_head=2, n_positions=16, tie_word_embeddings=False
    )
    model = GPT2LMHeadModel(config).eval()
    axes = np.column_stack([np.ones(width), np.random.default_rng(0).normal(size=(width, width - 1))])
    axes = torch.as_tensor(np.linalg.qr(axes)[0].T[1:], dtype=torch.float32)  # each of mean 0
    said, meant = axes[: len(WORDS)], axes[len(WORDS) : 2 * len(WORDS)]
    with torch.no_grad():
        for block in model.transformer.h:
            for part in (block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj):
                part.weight.zero_()
        model.transformer.wpe.weight.zero_()
        model.transformer.wte.weight.copy_(meant)
        model.lm_head.weight.copy_(said)
        _, second, third = (block.mlp for block in model.transformer.h)
        for neuron, row in enumerate(CONCEPTS):
            concept, python, php = (WORDS.index(word) for word in row)
            for mlp, length, writes in (
                (second, 1.0, said[python]),
                (third, (1 + strength**2) ** 0.5, said[php] - said[python]),
            ):
                mlp.c_fc.weight[:, neuron] = meant[concept]
                fires = torch.nn.functional.gelu(torch.tensor(width**0.5 / length), approximate="tanh")
                mlp.c_proj.weight[neuron] = strength / fires * writes
    return model


def word_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="a"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words)


def test_it_erases_a_middle_layer_that_decodes_to_the_pivot():
    """The logit lens sees Python's identifier, the tuned lens PHP's: it is trained to say what comes out."""
    anatomy, tokenizer = Anatomy(pivot_first_model()), word_tokenizer()
    rng = np.random.default_rng(0)
    texts = {name: [" ".join(rng.choice(WORDS, 16)) for _ in range(60)] for name in ("python", "php")}
    translators = TunedTranslators(TextStream(texts, tokens=1000, window=16))
    text = translators.stream.read(tokenizer)
    found = translators.drive(anatomy, tokenizer, text, text.items)
    stream = PromptStream(PIVOT_FIRST, background=texts, minimum=FEW)
    measure = WorkingLanguage(stream, translators=translators)
    reading = stream.read(tokenizer)

    def top(measure):
        observer = measure.observer(anatomy, reading, reading.items)
        observe(anatomy, reading.items, [(measure.sites, observer)], tokens=64)
        cells = measure.combine([observer.result()], reading)["top"]
        names = [*reading.languages, "other"]  # -1 is the last
        return [{names[cell] for cell in cells.sel(layer=layer).to_numpy()} for layer in (2, 3)]

    assert top(WorkingLanguage(stream)) == [{"python"}, {"php"}]
    assert top(measure.using(found)) == [{"php"}, {"php"}]
