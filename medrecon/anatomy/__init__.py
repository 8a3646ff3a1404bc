"""Bodies that never were: slices of CT and MR to train and to test with."""
