"""A believable brand to try the product with: Harbour & Pine, home goods, sold on five channels."""
