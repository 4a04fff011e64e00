"""SAEs inside a language model, on plain transformers models and on TransformerLens' bridge.

`spliced_sae.py` is what an SAE does at its hooks in any model. `splice.py` puts SAEs into a model
temporarily; `hooked_transformer.py` is TransformerLens' bridge with SAEs that stay.
"""
