"""Which candidates become a query's hard negatives."""
