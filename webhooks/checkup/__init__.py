"""What `mainstem doctor` looks at, one subject per file; each check returns findings and changes nothing."""
