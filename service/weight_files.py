"""Which of a model's files are brought from where they are stored, as patterns of their names."""

# Everything but weights in formats that run code when they are read.
WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.tiktoken")
UNWANTED = (
    # Pickled weights run code when they are loaded; the server reads safetensors only.
    *("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5"),
    # The same weights once more, for the publisher's own programs (Mistral's; OpenAI's and Meta's) and for ONNX.
    *("consolidated*", "original/*", "metal/*", "onnx/*"),
)
