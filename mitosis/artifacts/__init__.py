"""Files: packing and unpacking rules and the S3 store."""
