"""The model that plans are for when no bundle is at hand: Phi-4-reasoning-vision-15B, as it was published."""

from phiedge.bundle import Generation, ModelFacts

PUBLISHED_NAME = "Phi-4-reasoning-vision-15B"

# Its config.json and generation_config.json; a test holds the shapes against what phiedge reads of them. Plans use none
# of the token ids; those of thinking stand in its tokenizer, and are as this project expects them.
PUBLISHED = ModelFacts(
    model_type="phi4-siglip",
    vocab_size=100_352,
    hidden_size=5120,
    num_layers=40,
    num_heads=40,
    num_kv_heads=10,
    head_dim=128,
    intermediate_size=17_920,
    rms_norm_eps=1e-5,
    rope_theta=500_000.0,
    max_position_embeddings=32_768,
    publisher_max_length=8192,
    vision_hidden_size=1152,
    vision_layers_used=26,
    vision_heads=16,
    vision_intermediate_size=4304,
    patch_size=16,
    position_grid=16,
    min_num_patches=256,
    max_num_patches=3600,
    bos_token_id=100_257,
    eos_token_ids=(100_265,),
    pad_token_id=100_349,
    think_token_id=100_350,
    end_think_token_id=100_351,
    nothink_token_id=100_348,
    generation=Generation(do_sample=True, temperature=0.8, top_p=0.95),
)
