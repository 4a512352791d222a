"""The FDAE U-Net: a `UNet2DModel` with a stem to which the condition map is added (FDAE paper, eq. 7).

h = conv_stem(sample) + condition_map      once, before the skip connections start
F = U-Net(h, timestep)
"""

import torch
from diffusers import UNet2DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import nn
from torch.nn import functional as F

from ..errors import FDAEError
from .normalization import keep_group_norm_in_half_precision


class FDAEUNet2DModel(UNet2DModel):
    """A `UNet2DModel` conditioned on masked content codes; the defaults are the ADM / EDM 64x64 network of the paper.

    Args:
        condition_channels: Channels d_F of the condition map, and of the stem that it is added to.
        timestep_scale: Factor on the timestep before its embedding. EDM schedulers emit c_noise = ln(sigma) / 4; the
            released code embeds 1000 * c_noise.
        patch_size: Side of the squares of pixels that become the channels of one: the levels then start at
            ``sample_size / patch_size``, for a fraction of the cost. The stem, and the condition map that is added to
            it, keep the image's resolution.
        sample_size: Height and width of the image.
        in_channels: Channels of the image.
        out_channels: Channels of the output.
        center_input_sample: Must be ``False``: EDM preconditioning scales the input.
        time_embedding_type: ``"positional"``; the others of `UNet2DModel` cannot embed ln(sigma) / 4.
        time_embedding_dim: See `UNet2DModel`, as are all that follow.
        freq_shift: See `UNet2DModel`.
        flip_sin_to_cos: See `UNet2DModel`.
        down_block_types: See `UNet2DModel`. ``DownBlock2D`` ignores ``downsample_type``: for residual down-sampling
            without attention use ``ResnetDownsampleBlock2D``.
        mid_block_type: See `UNet2DModel`.
        up_block_types: See `UNet2DModel`.
        block_out_channels: See `UNet2DModel`.
        layers_per_block: See `UNet2DModel`.
        mid_block_scale_factor: See `UNet2DModel`.
        downsample_padding: See `UNet2DModel`.
        downsample_type: See `UNet2DModel`.
        upsample_type: See `UNet2DModel`.
        dropout: See `UNet2DModel`.
        act_fn: See `UNet2DModel`.
        attention_head_dim: See `UNet2DModel`.
        norm_num_groups: See `UNet2DModel`.
        attn_norm_num_groups: See `UNet2DModel`.
        norm_eps: See `UNet2DModel`.
        resnet_time_scale_shift: See `UNet2DModel`.
        add_attention: See `UNet2DModel`.
        class_embed_type: See `UNet2DModel`.
        num_class_embeds: See `UNet2DModel`.
        num_train_timesteps: See `UNet2DModel`.

    Raises:
        FDAEError: If ``center_input_sample`` or ``time_embedding_type`` do not fit EDM preconditioning, or the sample
            size cannot be halved as often as there are levels.
    """

    # The whole signature of UNet2DModel stands here because ConfigMixin saves and loads only what it can see.
    @register_to_config
    def __init__(
        self,
        condition_channels: int = 80,
        timestep_scale: float = 1000.0,
        patch_size: int = 1,
        sample_size: int | tuple[int, int] | None = 64,
        in_channels: int = 3,
        out_channels: int = 3,
        center_input_sample: bool = False,
        time_embedding_type: str = "positional",
        time_embedding_dim: int | None = None,
        freq_shift: int = 0,
        flip_sin_to_cos: bool = True,
        down_block_types: tuple[str, ...] = (
            "ResnetDownsampleBlock2D",
            "AttnDownBlock2D",
            "AttnDownBlock2D",
            "AttnDownBlock2D",
        ),
        mid_block_type: str | None = "UNetMidBlock2D",
        up_block_types: tuple[str, ...] = ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        block_out_channels: tuple[int, ...] = (192, 384, 576, 768),
        layers_per_block: int = 3,
        mid_block_scale_factor: float = 1,
        downsample_padding: int = 1,
        downsample_type: str = "resnet",
        upsample_type: str = "resnet",
        dropout: float = 0.1,
        act_fn: str = "silu",
        attention_head_dim: int | None = 64,
        norm_num_groups: int = 32,
        attn_norm_num_groups: int | None = None,
        norm_eps: float = 1e-5,
        resnet_time_scale_shift: str = "default",
        add_attention: bool = True,
        class_embed_type: str | None = None,
        num_class_embeds: int | None = None,
        num_train_timesteps: int | None = None,
    ):
        if center_input_sample or time_embedding_type != "positional":
            raise FDAEError(
                "EDM preconditioning needs center_input_sample=False and time_embedding_type='positional', "
                f"not {center_input_sample} and {time_embedding_type!r}"
            )
        if patch_size < 1:
            raise FDAEError(f"patch_size must be at least 1, not {patch_size}")
        scale = patch_size * 2 ** (len(block_out_channels) - 1)
        if isinstance(sample_size, int) and (sample_size < 1 or sample_size % scale):
            patches = f" of patches of {patch_size}" if patch_size > 1 else ""
            raise FDAEError(
                f"sample_size={sample_size} must be a multiple of {scale}: "
                f"there are {len(block_out_channels)} levels{patches}"
            )
        super().__init__(
            sample_size=sample_size,
            in_channels=in_channels,
            out_channels=out_channels,
            time_embedding_dim=time_embedding_dim,
            freq_shift=freq_shift,
            flip_sin_to_cos=flip_sin_to_cos,
            down_block_types=down_block_types,
            mid_block_type=mid_block_type,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            mid_block_scale_factor=mid_block_scale_factor,
            downsample_padding=downsample_padding,
            downsample_type=downsample_type,
            upsample_type=upsample_type,
            dropout=dropout,
            act_fn=act_fn,
            attention_head_dim=attention_head_dim,
            norm_num_groups=norm_num_groups,
            attn_norm_num_groups=attn_norm_num_groups,
            norm_eps=norm_eps,
            resnet_time_scale_shift=resnet_time_scale_shift,
            add_attention=add_attention,
            class_embed_type=class_embed_type,
            num_class_embeds=num_class_embeds,
            num_train_timesteps=num_train_timesteps,
        )
        self.conv_stem = nn.Conv2d(in_channels, condition_channels, kernel_size=3, padding=1)
        patch_area = patch_size**2
        self.conv_in = nn.Conv2d(patch_area * condition_channels, block_out_channels[0], kernel_size=3, padding=1)
        if patch_size > 1:
            self.conv_out = nn.Conv2d(block_out_channels[0], patch_area * out_channels, kernel_size=3, padding=1)
        keep_group_norm_in_half_precision(self)
        self._zero_output_layers()

    def _zero_output_layers(self) -> None:
        """Start residual branches, attention and output at zero, as ADM does (Dhariwal and Nichol 2021)."""
        for module in self.modules():
            if isinstance(module, ResnetBlock2D):
                nn.init.zeros_(module.conv2.weight)
                nn.init.zeros_(module.conv2.bias)
            elif isinstance(module, Attention):
                nn.init.zeros_(module.to_out[0].weight)
                nn.init.zeros_(module.to_out[0].bias)
        for parameter in self.conv_out.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float,
        condition_map: torch.Tensor,
        return_dict: bool = True,
        class_labels: torch.Tensor | None = None,
    ) -> UNet2DOutput | tuple[torch.Tensor]:
        """Predict F (Karras et al. 2022, eq. 7) from a preconditioned sample.

        Args:
            sample: (B, in_channels, H, W), the noisy image times c_in.
            timestep: c_noise = ln(sigma) / 4, a number or a tensor of shape () or (B,).
            condition_map: (B, condition_channels, H, W) from :class:`~fdae_diffusers.CMFNet`.
            return_dict: Return an output object instead of a tuple.
            class_labels: See `UNet2DModel`.

        Returns:
            The output with ``.sample`` (B, out_channels, H, W).
        """
        # A tensor, because UNet2DModel casts plain numbers to integers.
        timestep = torch.as_tensor(timestep, dtype=torch.float32, device=sample.device) * self.config.timestep_scale
        hidden_states = self.conv_stem(sample) + condition_map  # (B, d_F, H, W)
        hidden_states = F.pixel_unshuffle(hidden_states, self.config.patch_size)  # (B, p^2 d_F, H / p, W / p)
        output = super().forward(hidden_states, timestep, class_labels=class_labels).sample
        output = F.pixel_shuffle(output, self.config.patch_size)  # (B, out_channels, H, W)
        return UNet2DOutput(sample=output) if return_dict else (output,)
