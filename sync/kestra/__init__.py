"""Moving over from Kestra: which of somebody's flows run here, and what stands in the way of the others."""
