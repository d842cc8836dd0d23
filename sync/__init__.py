"""Git in, reports out: repositories, mirrors, plans, revisions and the forges that host them."""
