"""The embedded portrait model: its painter, captions, training, export and score."""

from engine import devices

devices.prepare()  # its modules import diffusers and transformers as they load
