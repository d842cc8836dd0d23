"""The life of an execution: pure decisions and the shell that commits them."""
