"""What scores are worth against labels."""
