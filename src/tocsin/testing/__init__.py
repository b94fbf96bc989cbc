"""What users need to test as we do: worlds whose true error rates have a closed form."""
