"""An online feedback loop for chat models: votes in, a better version out."""

__version__ = "0.1.0"
