"""Published facts of Phi-4-reasoning-vision-15B that tests hold phiedge against: its configuration and its sizes."""

PUBLISHED_CONFIG: dict[str, object] = {
    "architectures": ["Phi4ForCausalLMV"],
    "auto_map": {
        "AutoConfig": "modeling_phi4_visionr.Phi4VisionR",
        "AutoModelForCausalLM": "modeling_phi4_visionr.Phi4ForCausalLMV",
        "AutoProcessor": "processing_phi4_visionr.Phi4VisionRProcessor",
    },
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 100257,
    "dtype": "bfloat16",
    "embd_pdrop": 0.0,
    "eos_token_id": 100265,
    "freeze_mm_mlp_adapter": False,
    "hidden_act": "silu",
    "hidden_size": 5120,
    "image_aspect_ratio": "square",
    "initializer_range": 0.02,
    "intermediate_size": 17920,
    "max_num_patches": 3600,
    "max_position_embeddings": 32768,
    "min_num_patches": 256,
    "mm_hidden_size": 1152,
    "mm_projector_lr": 2e-05,
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_tower": "google/siglip2-so400m-patch16-naflex",
    "model_type": "phi4-siglip",
    "num_attention_heads": 40,
    "num_hidden_layers": 40,
    "num_key_value_heads": 10,
    "original_max_position_embeddings": 32768,
    "pad_token_id": 100349,
    "partial_rotary_factor": 1.0,
    "resid_pdrop": 0.0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 500000,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "tokenizer_model_max_length": 8192,
    "tokenizer_padding_side": "right",
    "transformers_version": "4.56.1",
    "tune_mm_mlp_adapter": False,
    "unfreeze_vision_tower": True,
    "use_cache": False,
    "use_mm_proj": True,
    "use_s2": False,
    "vision_config": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "model_type": "siglip2_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
    },
    "vocab_size": 100352,
}

# Exact, counted on the publisher's modules.
PUBLISHED_TENSORS = 695
PUBLISHED_PARAMETERS = 15_119_518_144

# The two small files beside config.json, as published.
PUBLISHED_GENERATION: dict[str, object] = {
    "bos_token_id": 100257,
    "do_sample": True,
    "eos_token_id": [100265],
    "pad_token_id": 100349,
    "temperature": 0.8,
    "top_p": 0.95,
}
PUBLISHED_PREPROCESSOR: dict[str, object] = {
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "Siglip2ImageProcessorNoUpscale",
    "image_std": [0.5, 0.5, 0.5],
    "max_num_patches": 3600,
    "min_num_patches": 256,
    "patch_size": 16,
    "processor_class": "Phi4VisionRProcessor",
    "rescale_factor": 0.00392156862745098,
    "resample": 2,
}
# Seven shards of bfloat16, to two decimals.
PUBLISHED_SHARDS_GB = (4.93, 4.96, 4.90, 4.77, 4.77, 4.88, 1.03)
