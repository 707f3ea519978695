"""Vision Transformers: presets, embeddings, encoder, pooling and builders."""

from keras_vit_scale.models.architecture import Architecture, architecture
from keras_vit_scale.models.block_layers import Block, BlockPooling
from keras_vit_scale.models.config import ViTConfig
from keras_vit_scale.models.conversion import from_blocks, to_blocks
from keras_vit_scale.models.embedding import ClassToken, PatchEmbedding, PositionEmbedding
from keras_vit_scale.models.encoder import Encoder
from keras_vit_scale.models.export import export_model, load_exported
from keras_vit_scale.models.inspection import attention_maps, block_outputs
from keras_vit_scale.models.pooling import AttentionPooling, TokenPooling
from keras_vit_scale.models.positions import SinCosPositionEmbedding
from keras_vit_scale.models.presets import SIZES, TABLE_2, preset
from keras_vit_scale.models.vit import (
    ViT,
    ViT_B16,
    ViT_B28,
    ViT_B32,
    ViT_G14,
    ViT_g14,
    ViT_L16,
    ViT_S16,
    ViT_s16,
    ViT_s28,
    ViT_S32,
    ViT_Ti16,
)

__all__ = [
    "SIZES",
    "TABLE_2",
    "Architecture",
    "AttentionPooling",
    "Block",
    "BlockPooling",
    "ClassToken",
    "Encoder",
    "PatchEmbedding",
    "PositionEmbedding",
    "SinCosPositionEmbedding",
    "TokenPooling",
    "ViT",
    "ViTConfig",
    "ViT_B16",
    "ViT_B28",
    "ViT_B32",
    "ViT_G14",
    "ViT_L16",
    "ViT_S16",
    "ViT_S32",
    "ViT_Ti16",
    "ViT_g14",
    "ViT_s16",
    "ViT_s28",
    "architecture",
    "attention_maps",
    "block_outputs",
    "export_model",
    "from_blocks",
    "load_exported",
    "preset",
    "to_blocks",
]
