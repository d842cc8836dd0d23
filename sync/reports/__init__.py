"""Reports committed back: the runs of an environment as pages and rows on a branch of its own repository."""
