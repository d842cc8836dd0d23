"""The engine in a world that is made of one seed."""
