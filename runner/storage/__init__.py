"""Internal storage of files behind one interface."""
