"""The page about a challenger."""
