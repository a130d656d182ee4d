"""The only code that knows diffusers."""
