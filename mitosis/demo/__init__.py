"""`mito demo`: a real campaign on a platform in a scratch folder, through the public SDK only."""
