"""Position embeddings of small pictures: Edge-LLM's four taps beside what SigLIP2 NaFlex computes. Needs no GPU.

pip install 'tensorrt-edgellm[export]==0.11.0'
python edge_llm_position_sampling.py
"""

import torch
from tensorrt_edgellm.models.cosmos3_reasoner.modeling_cosmos3_reasoner_visual import Cosmos3ReasonerVisualModel
from transformers.models.siglip2.modeling_siglip2 import Siglip2VisionEmbeddings

SIDE, CHANNELS = 16, 1152
GRIDS = ((45, 80), (20, 32), (16, 16), (12, 22), (10, 26), (8, 8), (4, 4))


def main() -> None:
    model = Cosmos3ReasonerVisualModel(
        {
            "projector_config": {"merger_intermediate_size": 64, "out_hidden_size": 64, "spatial_merge_size": 1},
            "vision_config": {
                "hidden_size": CHANNELS,
                "intermediate_size": 64,
                "num_attention_heads": 16,
                "num_hidden_layers": 1,
                "num_patches": SIDE**2,
                "patch_size": 16,
            },
        }
    )
    torch.manual_seed(0)
    table = model.visual.embeddings.position_embedding.weight
    torch.nn.init.normal_(table)
    print("grid       largest difference   least cosine of a row")
    for rows, columns in GRIDS:
        indices, weights = model.fast_pos_embed_interpolate(torch.tensor([[1, rows, columns]]))
        taps = (table[indices] * weights[:, :, None]).sum(0)
        reference = Siglip2VisionEmbeddings.resize_positional_embeddings(
            table.reshape(SIDE, SIDE, CHANNELS), torch.tensor([[rows, columns]]), max_length=rows * columns
        )[0]
        apart = (taps - reference).abs().max().item()
        cosine = torch.nn.functional.cosine_similarity(taps, reference, dim=1).min().item()
        print(f"{rows:3} x {columns:3}  {apart:18.2g}   {cosine:.4f}")


if __name__ == "__main__":
    with torch.no_grad():
        main()
