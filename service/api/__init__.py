"""The OpenAI API: one module per family of endpoints."""
