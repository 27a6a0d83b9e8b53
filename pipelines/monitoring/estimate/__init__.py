"""How good scores are, before and after their labels came."""
