"""What a weights file is, told by the names and shapes of its tensors alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Kind:
    """One kind of file and how it is recognised.

    `layout` is the naming its keys follow. `sentinels` are regular expressions over the file's listing, one line
    ``name 320x4x3x3`` per tensor; all of them must be found. `base` is the image model it was made for, where the names
    alone tell it.
    """

    name: str
    layout: str
    sentinels: tuple[str, ...]
    base: str | None = None


MOTION_MODULE, SPARSECTRL, TEXTUAL_INVERSION = "motion module", "SparseCtrl", "textual inversion"
UNKNOWN = Kind("unknown", "unknown", ())

# Custom Diffusion's own files hold the keys and values of cross attention and new words' embeddings, and nothing else.
_ATTN2 = r"(?:model\.diffusion_model|unet)\.\S*attn2\.to_[kv]\.weight \S+\n?"

# The first kind of which every sentinel is found is the answer, so what a file has besides motion layers stands first.
KINDS = (
    Kind("motion LoRA", "peft", (r"motion_modules\.\d+\..*\.lora_[AB]\.",)),
    Kind("motion LoRA", "authors", (r"motion_modules\.\d+\.temporal_transformer\..*lora",)),
    Kind("motion LoRA", "diffusers", (r"motion_modules\.\d+\..*lora",)),
    Kind("motion LoRA", "kohya", (r"^lora_unet_\w*motion_modules_\d+_.*\.lora_(up|down)\.",)),
    Kind("motion LoRA", "a1111", (r"motion_modules_\d+_.*\.lora_(up|down)\.",)),
    Kind("CameraCtrl", "authors", (r"processor\.qkv_merge\.|^pose_encoder_state_dict\.",)),
    Kind("Tune-A-Video", "authors", (r"\.attn_temp\.to_q\.weight ",)),
    Kind("FancyVideo", "authors", (r"^FancyVideo\b|fps_embedding\.linear\.",)),
    Kind("AnimateLCM-I2V", "authors", (r"^img_encoder\.",)),
    Kind(SPARSECTRL, "authors", (r"controlnet_cond_embedding\.", r"motion_modules\.\d+\.temporal_transformer\.")),
    Kind(SPARSECTRL, "diffusers", (r"controlnet_cond_embedding\.", r"motion_modules\.\d+\.")),
    Kind(SPARSECTRL, "diffusers", (r"controlnet_cond_embedding\.weight \d+x5x",)),
    Kind(SPARSECTRL, "diffusers", (r"controlnet_cond_embedding\.conv_in\.weight \d+x4x", r"^mid_block\.attentions\.")),
    Kind(SPARSECTRL, "a1111", (r"input_hint_block\.", r"motion_modules\.\d+\.")),
    Kind("PIA", "authors", (r"^conv_in\.weight \d+x9x", r"motion_modules\.\d+\.temporal_transformer\.")),
    Kind("PIA", "diffusers", (r"^conv_in\.weight \d+x9x", r"motion_modules\.\d+\.")),
    Kind(MOTION_MODULE, "hotshot", (r"^\w+_blocks?\..*temporal_attentions\.\d+\.",)),
    Kind(MOTION_MODULE, "authors", (r"motion_modules\.\d+\.temporal_transformer\.",)),
    Kind(MOTION_MODULE, "diffusers", (r"motion_modules\.\d+\.",)),
    Kind("domain adapter", "authors", (r"^(down|mid|up)_block.*attentions\.\d+\..*processor\.to_\w+_lora\.",)),
    Kind("Custom Diffusion", "diffusers", (r"\.processor\.to_\w+_custom_diffusion\.",)),
    Kind("Custom Diffusion", "authors", (rf"\A(?:{_ATTN2}|(?:embed|modifier_token\.\S+) \S+\n?)+\Z",)),
    Kind("IP-Adapter", "authors", (r"^image_proj\.", r"^ip_adapter\.")),
    Kind("LoRA", "peft", (r"\.lora_[AB]\.",)),
    Kind("LoRA", "diffusers", (r"[._]lora(_linear_layer)?\.(up|down)\.",)),
    Kind("LoRA", "kohya", (r"\.lora_(up|down)\.|\.hada_w1_a|\.lokr_w1|\.oft_(blocks|diag)",)),
    Kind("checkpoint", "ldm", (r"^model(_ema)?\.diffusion_model", r"^conditioner\.embedders\."), "sdxl"),
    Kind("checkpoint", "ldm", (r"^model(_ema)?\.diffusion_model", r"^cond_stage_model\.model\."), "sd2"),
    Kind("checkpoint", "ldm", (r"^model(_ema)?\.diffusion_model", r"^cond_stage_model\."), "sd15"),
    Kind("checkpoint", "ldm", (r"^model(_ema)?\.diffusion_model",)),
    Kind("ControlNet", "diffusers", (r"controlnet_cond_embedding\.|controlnet_down_blocks\.",)),
    Kind("ControlNet", "ldm", (r"^control_model\.|input_hint_block\.|^lllite_unet_",)),
    Kind("UNet", "diffusers", (r"^conv_in\.weight ", r"^down_blocks\.\d+\.resnets\.")),
    Kind("UNet", "ldm", (r"^input_blocks\.0\.0\.weight ", r"^middle_block\.")),
    Kind("VAE", "diffusers", (r"^(encoder|decoder)\.(down|up)_blocks\.",)),
    Kind("VAE", "ldm", (r"^(first_stage_model\.)?(encoder|decoder)\.(down|up)\.\d+\.",)),
    Kind("text encoder", "transformers", (r"text_model\.encoder\.layers\.",)),
    Kind(TEXTUAL_INVERSION, "a1111", (r"^(string_to_param\.|emb_params |clip_[lg] )",)),
    Kind(TEXTUAL_INVERSION, "diffusers", (r"\A\S+ (\d+x)?(768|1024|1280)\Z",)),
)

# What each kind is called in a sentence, and where it belongs.
_CHECKPOINT = "use it as the checkpoint and give a motion module here"
_PROMPT = "name it in the prompt as <lora:name:1> and give a motion module here"
_ELSEWHERE = "give a motion module such as v3_sd15_mm here"
REFUSALS = {
    "motion LoRA": ("a motion LoRA", "give the motion module it was trained on here, and this file as a motion LoRA"),
    "CameraCtrl": ("a CameraCtrl model, which is not supported", _ELSEWHERE),
    "Tune-A-Video": (
        "a Tune-A-Video file",
        "draw it on the command line, with the clip it was tuned on, and " + _ELSEWHERE,
    ),
    "FancyVideo": ("a FancyVideo model, which is not supported", _ELSEWHERE),
    "AnimateLCM-I2V": ("an AnimateLCM-I2V model, which is not supported", "give the text-to-video AnimateLCM here"),
    SPARSECTRL: ("a SparseCtrl encoder", "give it for key frames, and a motion module here"),
    "PIA": ("a PIA model, which is not supported", _ELSEWHERE),
    "domain adapter": ("a domain adapter, a LoRA of the image layers", "give it as the adapter of a motion module"),
    "LoRA": ("a LoRA of the image model", _PROMPT),
    "Custom Diffusion": ("a Custom Diffusion file, which is not supported", "merge it into a checkpoint first"),
    "checkpoint": ("a Stable Diffusion checkpoint", _CHECKPOINT),
    "ControlNet": ("a ControlNet", _ELSEWHERE),
    "IP-Adapter": ("an IP-Adapter", _ELSEWHERE),
    "UNet": ("an image model's UNet alone", "give the whole model as the checkpoint, and a motion module here"),
    "VAE": ("a VAE", _ELSEWHERE),
    "text encoder": ("a text encoder", _ELSEWHERE),
    TEXTUAL_INVERSION: ("a textual inversion embedding", "name it in the prompt and give a motion module here"),
    "unknown": ("a weights file of unknown kind", _ELSEWHERE),
}


def detect(state: Mapping[str, Tensor]) -> Kind:
    """The first of `KINDS` that `state` shows every sentinel of, else `UNKNOWN`."""
    listing = "\n".join(f"{name} {'x'.join(map(str, tensor.shape))}" for name, tensor in state.items())
    found = (kind for kind in KINDS if all(re.search(sentinel, listing, re.MULTILINE) for sentinel in kind.sentinels))
    return next(found, UNKNOWN)


def title(kind: Kind) -> str:
    """What a file of this kind is called in a sentence."""
    return REFUSALS[kind.name][0] if kind.name in REFUSALS else f"a {kind.name}"


def refusal(kind: Kind) -> str:
    """Why a file of this kind is not loaded as a motion module, and where it belongs: the end of a sentence."""
    return f"is {title(kind)}, and not a motion module; {REFUSALS[kind.name][1]}."
