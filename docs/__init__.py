"""Documentation, and the program that keeps its generated parts true."""
