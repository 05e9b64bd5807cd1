"""Weights of the original code, of transformers and of BERT into ours, and ours back."""
