"""torch, transformers, trl and peft live here, imported inside functions where a light process loads the module."""
