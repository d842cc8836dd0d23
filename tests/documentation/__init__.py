"""Holds the pages to their word: runs their commands, follows their links, looks up what they name."""
