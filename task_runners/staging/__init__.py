"""How files travel to where a task runs, and back."""
