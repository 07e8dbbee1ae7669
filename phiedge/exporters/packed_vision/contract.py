"""What TensorRT Edge-LLM 0.11 feeds a packed-patch vision graph, and the operator that it computes attention with.

Source: the graph that its own exporter writes for its SigLIP2 tower (`cosmos3_reasoner`), wheel 0.11.0. Patches of all
pictures follow each other, row by row of each picture, each patch flattened channel first; `cu_seqlens` says where each
picture begins. What its host interpolates of positions comes as four taps for every patch.
"""

DOMAIN = "trt_edgellm"
DOMAIN_VERSION = 1
OPSET = 24

PATCHES, BOUNDS, LONGEST = "input", "cu_seqlens", "max_seqlen_carrier"
TAP_INDICES, TAP_WEIGHTS = "fast_pos_embed_idx", "fast_pos_embed_weight"
FEATURES = "output"

ATTENTION = "ViTAttentionPlugin"

# The dynamic axes: patches of all pictures, pictures plus one, and a length that is told by a shape alone.
TOTAL, PICTURES_AND_ONE, MOST_PATCHES = "total_patches", "pictures_and_one", "max_seqlen"
TAPS = 4
