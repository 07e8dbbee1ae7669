"""Choosing the small integers and scales that stand for a model's weights.

Without data:

    int4.py             symmetric round-to-nearest in groups, 4 and 8 bits
    rounding.py         the same for bfloat16, in one pass through the cache

With data, one decoder layer at a time:

    samples.py          sequences of tokens and pictures, and what their rows count for
    run.py              what they begin with, and how what was killed goes on
    streaming.py        all layers                   -> passing_rows.py, first_rows.py, row_file.py
    layer_run.py        one layer                    -> layer_steps.py (its order), statistics.py (its inputs)
    layer_steps.py      what stands between linears  -> decoder_layer.py (its formulas)
    head_run.py         the head, where it has 4 bits
    int4_run.py         for small integers           -> methods.py (what competes), folding.py, head_run.py
    methods.py          one linear: what competes    -> grouped.py (clipping), smoothing.py (AWQ), gptq.py
    folding.py          where AWQ's factors go
    float8_run.py       for 8-bit floats             -> float8_linear.py (what competes), float8_artefact.py,
                        float8_calibrated.py (what an export reads), eight_bits.py (rules of scales)
    kv_scales.py        scales of its cache          -> kv_run.py finds them alone, for weights as they are
    artefact.py         what a layer leaves
    calibrated.py       what an export reads it through -> kept_layers.py
    sensitivity.py      what each linear costs, and which get more bits -> partial_models.py (some linears quantised)

What is told of it: report.py, linear_report.py, divergence.py. What a quantised weight is, and who consumes it, stands
in `phiedge.exporters.quantised`.
"""
