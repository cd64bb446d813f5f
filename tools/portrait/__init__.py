"""The embedded portrait model: its painter, captions, training, export and score."""
