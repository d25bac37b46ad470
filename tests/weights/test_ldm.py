"""Our LDM names are the ones that diffusers' converter reads."""

from __future__ import annotations

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint

from motion.training.image import ImageModel, Widths
from motion.weights.formats.ldm import to_ldm


def test_diffusers_reads_back_what_was_written() -> None:
    model = ImageModel.build(Widths(unet=(32, 32, 64, 64), text=16))
    unet, vae, text = (part.state_dict() for part in (model.unet, model.vae, model.text))
    written = to_ldm(unet, vae, text)
    assert len(written) == len(unet) + len(vae) + len(text)
    for read, original in (
        (convert_ldm_unet_checkpoint(dict(written), dict(model.unet.config)), unet),
        (convert_ldm_vae_checkpoint(dict(written), dict(model.vae.config)), vae),
    ):
        assert read.keys() == original.keys()
        assert all(torch.equal(read[name], original[name]) for name in original)


def test_text_names_do_not_depend_on_the_version_of_transformers() -> None:
    tensor = torch.zeros(1)
    old, new = (to_ldm({}, {}, {f"{level}embeddings.token_embedding.weight": tensor}) for level in ("text_model.", ""))
    assert old.keys() == new.keys() == {"cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"}


def test_a_tensor_without_a_place_is_named() -> None:
    with pytest.raises(KeyError, match="has no place"):
        to_ldm({"somewhere.weight": torch.zeros(1)}, {}, {})
