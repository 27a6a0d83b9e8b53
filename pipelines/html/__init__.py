"""What every page is made of: templates, tables, plots, documents, and words for numbers."""
