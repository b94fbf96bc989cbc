"""Where the signal comes from: text in, safe-high scores out."""
