"""What a run made and measured, as pictures and pages."""
