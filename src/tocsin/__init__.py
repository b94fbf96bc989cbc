"""An alarm, with a stated error guarantee, for what a language model is writing."""

__version__ = "0.1.0"
