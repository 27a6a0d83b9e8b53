"""What each way to act would gain, and the choice among them."""
