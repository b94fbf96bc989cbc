"""Text as it comes: steps, normal forms. Pure: text in, values out, no I/O."""
