"""An IP-Adapter: its projection, and for each cross-attention of a UNet the matrices for keys and values of images."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from torch import Tensor, nn

from motion.errors import MotionError
from motion.models.ip_adapter.projection import PooledProjection, Resampler, TokenProjection

Projection = PooledProjection | Resampler | TokenProjection
PROJECTION, LAYERS = "image_proj", "ip_adapter"
"""The two halves of a file. Layers go by the numbers of diffusers' attention processors: those of a UNet's encoder,
decoder and middle in this order, self- and cross-attention in turns, of which only the latter have any."""


class IPAdapter(nn.Module):
    """`tokens` makes image tokens of embeddings; the layers' keys and values of them go beside those of the text.

    Ye et al. 2023, "IP-Adapter", arXiv:2308.06721, equation 5.
    """

    def __init__(self, projection: Projection, shapes: Mapping[str, tuple[int, int]]) -> None:
        """``shapes``: (channels of the attention, channels of the text) by the layer's number."""
        super().__init__()
        self.image_proj = projection
        self.ip_adapter = nn.ModuleDict(
            {
                number: nn.ModuleDict({name: nn.Linear(text, inner, bias=False) for name in ("to_k_ip", "to_v_ip")})
                for number, (inner, text) in sorted(shapes.items(), key=lambda item: int(item[0]))
            }
        )

    @classmethod
    def of_shapes(cls, state: Mapping[str, Tensor]) -> IPAdapter:
        """An adapter, not filled, of the kind and the shapes of a file's tensors.

        Raises MotionError, as the end of a sentence, for FaceID adapters and whatever else is not known.
        """
        found = {name.removeprefix(f"{PROJECTION}."): tensor for name, tensor in state.items()}
        shapes = {}
        for name, tensor in state.items():
            parts = name.split(".")
            if parts[0] == LAYERS and parts[2:] == ["to_k_ip", "weight"] and parts[1].isdecimal() and tensor.ndim == 2:
                shapes[parts[1]] = (tensor.shape[0], tensor.shape[1])
        if not shapes or any("lora" in name or "perceiver" in name for name in state):
            raise MotionError("is an IP-Adapter for faces (FaceID) or of an unknown kind: give ip-adapter_sd15, plus, "
                              "full-face or one for SDXL")  # fmt: skip
        channels = next(iter(shapes.values()))[1]
        try:
            if "latents" in found:
                projection: Projection = Resampler(found)
            elif "proj.0.weight" in found:
                projection = TokenProjection(found)
            else:
                projection = PooledProjection(found, channels)
        except (KeyError, ValueError) as error:
            raise MotionError(f"lacks {PROJECTION}.{error.args[0]}: download it again") from error
        return cls(projection, shapes)

    @property
    def pooled(self) -> bool:
        """Whether it takes one embedding of a picture, else the hidden states of the encoder's last but one layer."""
        return isinstance(self.image_proj, PooledProjection)

    @property
    def layers(self) -> list[nn.ModuleDict]:
        """The layers in the order of diffusers' attention processors."""
        return list(self.ip_adapter.values())  # type: ignore[arg-type]

    def tokens(self, embeddings: Tensor) -> Tensor:
        """Image tokens ``[rows, tokens, channels]`` of embeddings, in the adapter's dtype and on its device.

        ``embeddings``: of ip-adapter_sd15 and sdxl the encoder's projected embedding, ``[rows, width]``; of plus and
        full-face the hidden states of its last but one layer, ``[rows, tokens, width]``. Raises MotionError for
        another shape.
        """
        width, ndim = self.image_proj.width, 2 if self.pooled else 3
        if embeddings.ndim != ndim or embeddings.shape[-1] != width:
            wanted = "one embedding" if self.pooled else "all hidden states"
            raise MotionError(
                f"the embeddings are {list(embeddings.shape)}: this IP-Adapter takes {wanted} of {width} channels for "
                "each image, as its own image encoder gives them"
            )
        some = next(chain(self.parameters()))
        projected: Tensor = self.image_proj(embeddings.to(some))
        return projected
