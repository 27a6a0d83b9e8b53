"""What every page is made of: markup, plots, and words for numbers."""
