"""SAEs inside a language model: hooked runs on TransformerLens' bridge and on plain models.

`spliced.py` is what an SAE does at its hooks, whatever the model. `splice.py` puts SAEs into
transformers models and bridges for a while; `transformer.py` is TransformerLens' bridge with SAEs
that stay.
"""
