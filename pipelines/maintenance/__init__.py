"""To keep a problem in order: what is out of step and how it is mended (doctor), and what nobody needs (vacuum)."""
