"""Secret backends behind one interface."""
