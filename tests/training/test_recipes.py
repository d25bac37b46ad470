"""The recipes touch what they should: the data they see, the parameters they move."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import motion
from motion.demo import clips as data
from motion.demo.clips import sprite_clips, sprite_stills, training_scenes
from motion.demo.recipes import tokenize
from motion.demo.world import LOOKS, all_scenes
from motion.models.motion.architecture import Architecture
from motion.models.motion.model import MotionModel
from motion.training.image import IMAGE_BETAS, ImageModel, Noised, Stage, Widths, min_snr, noise_loss, train_image
from motion.training.loop import Plan
from motion.training.motion_module import NOISIEST, draw_times, hiding, train_motion
from motion.training.vae import LATENT_SCALE, build_vae, normalise_latents, to_pixels
from tests.support.small import far

PLAN = Plan(steps=2, learning_rate=1e-3, warmup=1, ema=0.5)
NARROW = Widths(unet=(32, 32, 32, 32), vae=(32, 32, 32, 32), text=16, text_layers=1)


@pytest.fixture(scope="module")
def image() -> ImageModel:
    torch.manual_seed(0)
    return ImageModel.build(NARROW).eval().requires_grad_(False)


@pytest.fixture
def clips(image: ImageModel, tmp_path: Path) -> data.LatentClips:
    return sprite_clips(image.vae, tokenize, 3, "plain", tmp_path / "latents.safetensors")


def test_training_never_sees_a_held_out_caption() -> None:
    assert not any(scene.held_out for scene in training_scenes())
    assert len(training_scenes()) == len(all_scenes()) * 7 // 8


def test_folding_leaves_the_picture_and_normalises_the_latents() -> None:
    torch.manual_seed(1)
    vae = build_vae((32, 32, 32, 32)).eval()
    pixels = to_pixels(sprite_stills(np.random.default_rng(0), 16, LOOKS))
    with torch.no_grad():
        before = vae.decode(vae.encode(pixels).latent_dist.mean).sample
        spread = (
            vae.encode(pixels).latent_dist.std / vae.encode(pixels).latent_dist.mean.std(dim=(0, 2, 3))[:, None, None]
        )
        normalise_latents(vae, pixels)
        posterior = vae.encode(pixels).latent_dist
        after = vae.decode(posterior.mean).sample
    assert far(after, before) <= 1e-5
    assert torch.allclose(posterior.mean.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-3)
    assert torch.allclose(posterior.mean.std(dim=(0, 2, 3)), torch.full((4,), 1 / LATENT_SCALE), rtol=1e-3)
    assert torch.allclose(posterior.std * LATENT_SCALE, spread, rtol=1e-2)


def test_encoded_clips_are_kept(image: ImageModel, clips: data.LatentClips, tmp_path: Path) -> None:
    (tmp_path / "latents.safetensors").rename(tmp_path / "moved.safetensors")
    again = sprite_clips(image.vae, tokenize, 3, "plain", tmp_path / "moved.safetensors")
    assert torch.equal(clips.latents, again.latents)
    assert torch.equal(clips.tokens, again.tokens)


def test_dropped_captions_are_the_empty_one(clips: data.LatentClips) -> None:
    _, tokens = clips.stills(np.random.default_rng(0), 8, text_drop=1.0)
    assert torch.equal(tokens, tokenize([""]).expand(8, -1))
    _, tokens = clips.stills(np.random.default_rng(0), 8, text_drop=0.0)
    assert not (tokens == clips.empty).all(dim=1).any()


def test_the_image_recipe_leaves_the_autoencoder(clips: data.LatentClips, tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = ImageModel.build(NARROW)
    vae = {name: tensor.clone() for name, tensor in model.vae.state_dict().items()}
    unet, text = (next(part.parameters()).clone() for part in (model.unet, model.text))
    train_image(model, clips, Stage("image", PLAN), 2, tmp_path)
    assert all(torch.equal(tensor, vae[name]) for name, tensor in model.vae.state_dict().items())
    assert not torch.equal(next(model.unet.parameters()), unet)
    assert not torch.equal(next(model.text.parameters()), text)


def test_the_motion_recipe_moves_the_module_alone(image: ImageModel, clips: data.LatentClips, tmp_path: Path) -> None:
    torch.manual_seed(3)
    module = MotionModel(Architecture.of_unet("v3", NARROW.unet))
    before = {name: tensor.clone() for name, tensor in image.state_dict().items()}
    train_motion(image, module, clips, PLAN, 1, tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in image.state_dict().items())
    assert all(layer.proj_out.weight.any() for layer in module.slots.values())
    assert not image.unet._forward_hooks


def test_an_untrained_module_changes_nothing(image: ImageModel, clips: data.LatentClips) -> None:
    module = MotionModel(Architecture.of_unet("v3", NARROW.unet))
    latents = clips.latents[0]
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    times = torch.full((len(latents),), 500)
    context = image.encode_text(clips.tokens[0, :1]).expand(len(latents), -1, -1)
    noised = Noised(latents, noise, times, IMAGE_BETAS.alphas_cumprod()[times].float())
    plain = noise_loss(image.unet, noised, context, min_snr)
    with motion.attach(image.unet, module, frames=len(latents)):
        assert torch.equal(noise_loss(image.unet, noised, context, min_snr), plain)


def test_half_of_the_time_steps_come_from_the_noisiest() -> None:
    times = draw_times(np.random.default_rng(0), 100_000, 1000)
    assert (times.min(), times.max()) == (0, 999)
    assert (times >= NOISIEST).mean() == pytest.approx(0.5 + 0.5 * (1000 - NOISIEST) / 1000, abs=0.01)
    assert ((times >= 500) & (times < NOISIEST)).mean() == pytest.approx(0.5 * (NOISIEST - 500) / 1000, abs=0.01)


def test_hidden_latents_look_like_noise_alone() -> None:
    draw = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 3, 4, 8, 8, generator=draw)
    kept = torch.tensor([0.002, 0.01, 0.05])
    found = kept.sqrt()[:, None, None, None] * latents
    found += (1 - kept).sqrt()[:, None, None, None] * hiding(latents, noise, kept)
    assert torch.allclose(found, noise, atol=1e-6)
