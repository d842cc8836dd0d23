"""What is committed back about runs, as text: pages, boards, badges and rows. Pure: time and masking come in."""
